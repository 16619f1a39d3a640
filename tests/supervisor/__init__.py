"""Several workers: replacement, balance, stopping."""
