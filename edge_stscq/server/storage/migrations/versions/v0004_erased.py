"""Erased faces: their names stay, so that a late layer does not bring one back."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    whole = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    real: TypeEngine[float] = sa.Double().with_variant(sa.REAL, "sqlite")
    op.create_table(
        "erased",
        sa.Column("stream", sa.LargeBinary, primary_key=True),
        sa.Column("sequence", whole, primary_key=True),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("at", real, nullable=False),
        sa.Column("lasting", sa.Integer, nullable=False),
        sa.Column("revision", whole, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("erased_revision", "erased", ["revision"], unique=True)
    op.rename_table("changes", "changes_3")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("ALTER TABLE changes_3 RENAME CONSTRAINT changes_pkey TO changes_3_pkey")
    op.create_table(
        "changes",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", whole, nullable=False),
        sa.Column("overwrites", sa.Integer, nullable=False),
        sqlite_strict=True,
    )
    # Pages of an earlier file may hold what was replaced in them; in one that begins now, all is overwritten.
    op.execute(
        "INSERT INTO changes (id, revision, overwrites) "
        "SELECT id, revision, CASE WHEN EXISTS (SELECT 1 FROM faces) THEN 0 ELSE 1 END FROM changes_3"
    )
    op.drop_table("changes_3")
