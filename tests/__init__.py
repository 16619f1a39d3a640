"""End-to-end tests against the installed server; one folder per behaviour."""
