"""Alembic's entry: runs on the connection that `provisioner.store.schema` hands over."""

from alembic import context

from provisioner.store import handoffs, people, plans, webhooks  # noqa: F401 - their tables are part of the metadata
from provisioner.store.models import Base


def run() -> None:
    """Run the migrations inside the transaction that the caller began."""
    connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
