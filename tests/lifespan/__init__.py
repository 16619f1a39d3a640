"""Start-up and shutdown of the application."""
