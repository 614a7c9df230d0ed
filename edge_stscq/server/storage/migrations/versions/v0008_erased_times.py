"""Times of which all that a device saw was erased: what its spool brings of them later stays away."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    real: TypeEngine[float] = sa.Double().with_variant(sa.REAL, "sqlite")
    op.create_table(
        "erased_times",
        sa.Column("device", sa.Text, primary_key=True),
        sa.Column("since", real, primary_key=True),
        sa.Column("until", real, primary_key=True),
        sa.Column("at", real, nullable=False),
        sqlite_strict=True,
    )
