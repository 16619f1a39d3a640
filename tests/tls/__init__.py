"""TLS: certificates, clients' certificates, reload, tickets, redirects."""
