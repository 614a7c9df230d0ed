"""Revisions: faces are numbered by their last change, and found by device and by time."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    whole = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.add_column("faces", sa.Column("revision", whole, nullable=False, server_default=sa.text("0")))
    op.execute('UPDATE faces SET revision = "row"')
    op.create_index("faces_revision", "faces", ["revision"], unique=True)
    op.create_index("faces_device_row", "faces", ["device", "row"])
    op.create_index("faces_received", "faces", ["received"])
    op.create_table(
        "changes",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", whole, nullable=False),
        sqlite_strict=True,
    )
    op.execute("INSERT INTO changes (id, revision) SELECT 1, coalesce(max(revision), 0) FROM faces")
