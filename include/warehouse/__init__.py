"""The warehouse: its connections, its schema, and the published tables."""
