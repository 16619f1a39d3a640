"""The benchmark's driver: standard library only, so that any venv with the peers can run it."""
