"""Run the revisions on the connection that ``include.warehouse.migrate`` has opened and locked."""

from alembic import context
from sqlalchemy import text

connection = context.config.attributes["connection"]
# Alembic creates its version table before the first revision, which creates the schema.
connection.execute(text("create schema if not exists passport_ops"))
context.configure(connection=connection, version_table_schema="passport_ops", transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
