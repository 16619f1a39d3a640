"""The applications in examples/, with the services they use."""
