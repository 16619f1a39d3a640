"""Flask, Django and plain WSGI applications, which run in threads (`--interface wsgi`)."""
