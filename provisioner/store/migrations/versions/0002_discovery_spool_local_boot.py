"""discovered machines, spooled reports, a way to the disk for each machine

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

import provisioner.store.models

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "discovery",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("mac", sa.String(length=59), nullable=False),
        sa.Column("first_seen", provisioner.store.models.UtcTime(), nullable=False),
        sa.Column("last_seen", provisioner.store.models.UtcTime(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=39), nullable=False),
        sa.Column("serial", sa.String(length=255), nullable=True),
        sa.Column("uuid", sa.String(length=36), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("conflict", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_discovery")),
        sa.UniqueConstraint("mac", name=op.f("uq_discovery_mac")),
    )
    for column in ("last_seen", "serial", "uuid"):
        op.create_index(op.f(f"ix_discovery_{column}"), "discovery", [column], unique=False)
    # Columns that may be empty need no copy of the table, and a unique index no constraint.
    op.add_column("machine", sa.Column("local_boot", sa.String(length=32), nullable=True))
    op.add_column("machine", sa.Column("facts", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("event", sa.Column("spool_id", sa.String(length=64), nullable=True))
    op.create_index(op.f("uq_event_spool_id"), "event", ["spool_id"], unique=True)


def downgrade() -> None:
    raise NotImplementedError("restore the backup made before the upgrade")
