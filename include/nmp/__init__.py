"""The passport platform's HTTP API: the client, its connection, and what its answers say."""
