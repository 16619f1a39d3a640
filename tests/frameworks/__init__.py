"""One set of behaviours, checked through every framework."""
