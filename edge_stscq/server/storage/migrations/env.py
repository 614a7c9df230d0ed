"""What Alembic runs: the steps, on the connection and in the transaction of whoever opens the store."""

from alembic import context

from edge_stscq.server.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=context.config.attributes["version_table"],
)
with context.begin_transaction():
    context.run_migrations()
