"""The command line: what it accepts, what it says, how it exits."""
