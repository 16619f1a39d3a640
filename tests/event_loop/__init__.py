"""The event loop, tested beside asyncio's own: every test runs on both."""
