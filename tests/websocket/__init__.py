"""WebSockets as clients and applications see them (RFC 6455, RFC 7692, ASGI WebSocket 2.5)."""
