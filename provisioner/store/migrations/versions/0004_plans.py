"""plans of bulk changes and their staged rows, indexes of lists, interfaces whose MAC is not known yet

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

from provisioner.store.models import UtcTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "plan",
        sa.Column("id", sa.String(length=22), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("expires_at", UtcTime(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("applied_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan")),
    )
    op.create_index(op.f("ix_plan_expires_at"), "plan", ["expires_at"], unique=False)
    _machines()
    _parts()
    with op.batch_alter_table("interface") as batch:
        batch.alter_column("mac", existing_type=sa.String(length=59), nullable=True)
    _indexes()


def _indexes() -> None:
    """What lists of 100,000 machines are sorted and filtered by."""
    for table, name in (
        ("machine", "ix_machine_state"),
        ("machine", "ix_machine_profile_id"),
        ("machine_tag", "ix_machine_tag_tag"),
        ("interface", "ix_interface_subnet_id"),
        ("build", "ix_build_state"),
    ):
        op.drop_index(name, table_name=table)
    op.create_index("ix_machine_state_name", "machine", ["state", "name"])
    op.create_index("ix_machine_profile_id_name", "machine", ["profile_id", "name"])
    op.create_index("ix_machine_protected_name", "machine", ["protected", "name"])
    op.create_index("ix_machine_created_at_id", "machine", ["created_at", "id"])
    op.create_index("ix_machine_updated_at_id", "machine", ["updated_at", "id"])
    flagged = sa.text("flag <> ''")
    op.create_index("ix_machine_flagged", "machine", ["name"], sqlite_where=flagged, postgresql_where=flagged)
    op.create_index("ix_machine_tag_tag_machine_id", "machine_tag", ["tag", "machine_id"])
    op.create_index("ix_interface_subnet_id_machine_id", "interface", ["subnet_id", "machine_id"])
    op.create_index("ix_build_state_id", "build", ["state", "id"])
    op.create_index("ix_revision_at", "revision", ["at"])
    op.create_index("ix_revision_actor_id", "revision", ["actor", "id"])


def _machines() -> None:
    op.create_table(
        "staged_machine",
        sa.Column("plan_id", sa.String(length=22), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("added", sa.Integer(), nullable=True),
        sa.Column("target_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.String(length=253), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=True),
        sa.Column("protected", sa.Boolean(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("profile_id", sa.BigInteger(), nullable=True),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("kernel_options", sa.JSON(), nullable=False),
        sa.Column("serial", sa.String(length=255), nullable=True),
        sa.Column("uuid", sa.String(length=36), nullable=True),
        sa.Column("local_boot", sa.String(length=32), nullable=True),
        sa.Column("facts", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("inventory", sa.String(length=128), nullable=True),
        sa.Column("flag", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("recabled", sa.Boolean(), nullable=False),
        sa.Column("relabelled", sa.Boolean(), nullable=False),
        sa.Column("before", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("after", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("plan_id", "number", name=op.f("pk_staged_machine")),
    )
    op.create_index("ix_staged_machine_target", "staged_machine", ["plan_id", "target_id"], unique=False)


def _parts() -> None:
    op.create_table(
        "staged_interface",
        sa.Column("plan_id", sa.String(length=22), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("added", sa.Integer(), nullable=True),
        sa.Column("target_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("mac", sa.String(length=59), nullable=True),
        sa.Column("ip", sa.String(length=39), nullable=True),
        sa.Column("subnet_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("plan_id", "number", "position", name=op.f("pk_staged_interface")),
    )
    op.create_index("ix_staged_interface_mac", "staged_interface", ["plan_id", "mac"], unique=False)
    op.create_table(
        "staged_tag",
        sa.Column("plan_id", sa.String(length=22), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("tag", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("plan_id", "number", "tag", name=op.f("pk_staged_tag")),
    )


def downgrade() -> None:
    raise NotImplementedError("restore the backup made before the upgrade")
