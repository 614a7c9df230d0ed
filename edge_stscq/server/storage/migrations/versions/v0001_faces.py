"""Faces: the layout that SQLite files carried as `user_version` 1, before there were migrations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    whole = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "faces",
        sa.Column("row", whole, primary_key=True),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("sequence", whole, nullable=False),
        sa.Column("model", sa.LargeBinary, nullable=False),
        sa.Column("layers", sa.Integer, nullable=False),
        sa.Column("frame", sa.LargeBinary, nullable=False),
        sa.Column("received", sa.Double().with_variant(sa.REAL, "sqlite"), nullable=False),
        sa.UniqueConstraint("device", "sequence", name="faces_device_sequence"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
