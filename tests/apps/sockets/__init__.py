"""WebSocket applications, one framework or idea per file."""
