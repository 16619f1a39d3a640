"""The ASGI applications under test, one idea per file. Imported by the server, not by the tests."""
