"""The documentation does what it says: commands, code, settings, links."""
