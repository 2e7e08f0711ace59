"""Alembic's entry: migrate over the connection that the store hands in."""

from alembic import context

from harness.store.tables import TableBase

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=TableBase.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
