"""What commands ask: one protocol, answered by the services on this host or by a server's API."""
