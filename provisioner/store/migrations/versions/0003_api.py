"""tags, kinds of ranges, holds, search, tokens, sessions, webhooks

Revision ID: 0003
Revises: 0002
"""

import json

import sqlalchemy as sa
from alembic import op

from provisioner.store.models import UtcTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("machine", sa.Column("inventory", sa.String(length=128), nullable=True))
    op.create_index(op.f("ix_machine_inventory"), "machine", ["inventory"], unique=False)
    op.add_column("user", sa.Column("expires_at", UtcTime(), nullable=True))
    _machines()
    _people()
    _webhooks()
    _ranges()
    _words()


def _administered() -> list[sa.Column[object]]:
    return [
        sa.Column("id", _ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
    ]


def _machines() -> None:
    op.create_table(
        "machine_tag",
        sa.Column("machine_id", _ID, nullable=False),
        sa.Column("tag", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machine.id"], name=op.f("fk_machine_tag_machine_id_machine"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("machine_id", "tag", name=op.f("pk_machine_tag")),
    )
    op.create_index("ix_machine_tag_tag", "machine_tag", ["tag"], unique=False)
    op.create_table(
        "machine_words",
        sa.Column("machine_id", _ID, nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machine.id"], name=op.f("fk_machine_words_machine_id_machine"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("machine_id", name=op.f("pk_machine_words")),
    )
    op.create_table(
        "address_hold",
        sa.Column("ip", sa.String(length=39), nullable=False),
        sa.Column("subnet_id", _ID, nullable=False),
        sa.Column("until", UtcTime(), nullable=False),
        sa.Column("holder", sa.String(length=128), nullable=False),
        sa.ForeignKeyConstraint(
            ["subnet_id"], ["subnet.id"], name=op.f("fk_address_hold_subnet_id_subnet"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("ip", name=op.f("pk_address_hold")),
    )
    op.create_index(op.f("ix_address_hold_subnet_id"), "address_hold", ["subnet_id"], unique=False)


def _people() -> None:
    op.create_table(
        "api_token",
        *_administered(),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("uid", sa.String(length=16), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("scope", sa.JSON(), nullable=False),
        sa.Column("expires_at", UtcTime(), nullable=True),
        sa.Column("revoked_at", UtcTime(), nullable=True),
        sa.Column("last_used_at", UtcTime(), nullable=True),
        sa.Column("last_used_from", sa.String(length=39), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_api_token_user_id_user"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_token")),
        sa.UniqueConstraint("name", name=op.f("uq_api_token_name")),
        sa.UniqueConstraint("uid", name=op.f("uq_api_token_uid")),
    )
    op.create_index(op.f("ix_api_token_user_id"), "api_token", ["user_id"], unique=False)
    op.create_table(
        "login_session",
        sa.Column("id", _ID, nullable=False),
        sa.Column("uid", sa.String(length=16), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("last_seen_at", UtcTime(), nullable=False),
        sa.Column("expires_at", UtcTime(), nullable=False),
        sa.Column("source", sa.String(length=39), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user.id"], name=op.f("fk_login_session_user_id_user"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_session")),
        sa.UniqueConstraint("uid", name=op.f("uq_login_session_uid")),
    )
    for column in ("user_id", "expires_at"):
        op.create_index(op.f(f"ix_login_session_{column}"), "login_session", [column], unique=False)
    op.create_table(
        "login_failure",
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("last_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_login_failure")),
    )
    op.create_index(op.f("ix_login_failure_last_at"), "login_failure", ["last_at"], unique=False)


def _webhooks() -> None:
    op.create_table(
        "webhook",
        *_administered(),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("url", sa.String(length=1024), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook")),
        sa.UniqueConstraint("name", name=op.f("uq_webhook_name")),
    )
    op.create_table(
        "delivery",
        sa.Column("id", _ID, nullable=False),
        sa.Column("webhook_id", _ID, nullable=False),
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("due_at", UtcTime(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("delivered_at", UtcTime(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhook.id"], name=op.f("fk_delivery_webhook_id_webhook"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
        sa.UniqueConstraint("uid", name=op.f("uq_delivery_uid")),
    )
    op.create_index("ix_delivery_webhook_id_id", "delivery", ["webhook_id", "id"], unique=False)
    op.create_index("ix_delivery_due_at", "delivery", ["due_at"], unique=False)


def _ranges() -> None:
    """A range was a text, and always one for machines that nobody registered."""
    connection = op.get_bind()
    subnet = sa.table("subnet", sa.column("id", _ID), sa.column("ranges", sa.JSON()))
    for number, ranges in connection.execute(sa.select(subnet.c.id, subnet.c.ranges)).all():
        texts = json.loads(ranges) if isinstance(ranges, str) else ranges
        kinds = [dict(zip(("kind", "start", "end"), ("dynamic", *text.split("-")), strict=True)) for text in texts]
        connection.execute(sa.update(subnet).where(subnet.c.id == number).values(ranges=kinds))


def _words() -> None:
    if op.get_bind().dialect.name == "sqlite":
        # No positions: a query asks for all its trigrams and then looks at the text itself.
        op.execute(
            "CREATE VIRTUAL TABLE machine_fts USING fts5(words, content='machine_words', content_rowid='machine_id', "
            "tokenize='trigram', detail=none, columnsize=0)"
        )
        gone = "INSERT INTO machine_fts (machine_fts, rowid, words) VALUES ('delete', old.machine_id, old.words);"
        there = "INSERT INTO machine_fts (rowid, words) VALUES (new.machine_id, new.words);"
        for name, when, what in (
            ("insert", "INSERT", there),
            ("delete", "DELETE", gone),
            ("update", "UPDATE", gone + there),
        ):
            op.execute(f"CREATE TRIGGER machine_words_{name} AFTER {when} ON machine_words BEGIN {what} END")
    else:
        # Where the extension cannot be had, a search looks at every row.
        op.execute(
            "DO $$ BEGIN CREATE EXTENSION IF NOT EXISTS pg_trgm; "
            "CREATE INDEX ix_machine_words_trigrams ON machine_words USING gin (words gin_trgm_ops); "
            "EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'without pg_trgm: %', SQLERRM; END $$"
        )
    bare = "replace(interface.mac, ':', '')"
    joined = "group_concat" if op.get_bind().dialect.name == "sqlite" else "string_agg"
    op.execute(
        "INSERT INTO machine_words (machine_id, words) "  # noqa: S608 - no value in it comes from outside
        "SELECT machine.id, lower(machine.name || ' ' || coalesce(serial, '') || ' ' || coalesce(uuid, '') || ' ' || "
        f"coalesce({joined}({bare} || ' ' || coalesce(interface.ip, ''), ' '), '')) "
        "FROM machine LEFT JOIN interface ON interface.machine_id = machine.id GROUP BY machine.id"
    )


def downgrade() -> None:
    raise NotImplementedError("restore the backup made before the upgrade")
