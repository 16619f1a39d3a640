"""What an application sees of clients behind proxies."""
