"""handoffs: identities at the servers of configuration management, and the effects that are to be carried out there

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

import provisioner.store.base

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    moment = provisioner.store.base.UtcTime()
    op.create_table(
        "handoff",
        sa.Column("id", number, nullable=False),
        sa.Column("build_id", number, nullable=False),
        sa.Column("machine_id", number, nullable=True),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("tool", sa.String(length=16), nullable=False),
        sa.Column("identity", sa.String(length=253), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("public", sa.JSON(), nullable=False),
        sa.Column("kept", sa.LargeBinary(), nullable=True),
        sa.Column("enrols", sa.Boolean(), nullable=False),
        sa.Column("issues", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("fingerprint", sa.String(length=128), nullable=False),
        sa.Column("reached", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("issued_at", moment, nullable=True),
        sa.Column("revoked_at", moment, nullable=True),
        sa.ForeignKeyConstraint(["build_id"], ["build.id"], name=op.f("fk_handoff_build_id_build"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machine.id"], name=op.f("fk_handoff_machine_id_machine"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_handoff")),
    )
    op.create_index("uq_handoff_build_id_round", "handoff", ["build_id", "round"], unique=True)
    op.create_index("ix_handoff_tool_identity", "handoff", ["tool", "identity"])
    op.create_index("ix_handoff_machine_id_state", "handoff", ["machine_id", "state"])
    op.drop_table("outbox")  # nothing was ever put there
    op.create_table(
        "outbox",
        sa.Column("id", number, nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("handoff_id", number, nullable=False),
        sa.Column("machine_id", sa.BigInteger(), nullable=True),
        sa.Column("due_at", moment, nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("done_at", moment, nullable=True),
        sa.ForeignKeyConstraint(
            ["handoff_id"], ["handoff.id"], name=op.f("fk_outbox_handoff_id_handoff"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index(op.f("ix_outbox_machine_id"), "outbox", ["machine_id"])
    op.create_index(op.f("ix_outbox_due_at"), "outbox", ["due_at"])


def downgrade() -> None:
    raise NotImplementedError("restore the backup made before the upgrade")
