"""What the tests stand on: the server process, a raw-socket client, waiting with a deadline."""
