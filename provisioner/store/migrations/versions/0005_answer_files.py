"""drafts of templates, what profiles were tested with, further files of distros

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Columns that may be empty need no copy of the table.
    op.add_column("template", sa.Column("draft", sa.Text(), nullable=True))
    op.add_column("template", sa.Column("problems", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("profile", sa.Column("tested_with", sa.Text(), nullable=True))
    op.add_column("distro", sa.Column("files", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("restore the backup made before the upgrade")
