"""Clients that do not mean well, and whether anybody else notices."""
