"""The benchmark command's own rules."""
