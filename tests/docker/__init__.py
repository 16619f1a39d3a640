"""The container image, built and run by a Docker engine."""
