"""Counts of every device's faces, so that telling them reads no face."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    whole = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    real: TypeEngine[float] = sa.Double().with_variant(sa.REAL, "sqlite")
    op.create_table(
        "devices",
        sa.Column("device", sa.Text, primary_key=True),
        sa.Column("faces", whole, nullable=False),
        sa.Column("bytes", whole, nullable=False),
        sa.Column("last_received", real, nullable=False),
        sqlite_strict=True,
    )
    op.execute(
        "INSERT INTO devices (device, faces, bytes, last_received) "
        "SELECT device, count(*), sum(length(payload) + 6), max(received) FROM faces GROUP BY device"
    )
