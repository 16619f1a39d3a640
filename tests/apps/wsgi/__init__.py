"""WSGI applications for tests."""
