"""The revisions of the warehouse, oldest first; Alembic reads them by their file names."""
