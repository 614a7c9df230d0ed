"""Sealed faces, and the id of the key file that a store hangs on."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("faces", sa.Column("sealed", sa.Integer, nullable=False, server_default="0"))
    op.add_column("changes", sa.Column("seal", sa.LargeBinary))
    op.add_column("changes", sa.Column("sealed", sa.Integer, nullable=False, server_default="0"))
