"""Serving from a program: `rsgi.run`."""
