"""HTTP/1.1 as a client sees it and as the application sees it."""
