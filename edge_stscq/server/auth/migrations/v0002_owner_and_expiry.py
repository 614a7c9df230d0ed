"""Owner and expiry of tokens; earlier ones belong to their devices, and do not expire."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tokens", sa.Column("owner", sa.Text))
    op.add_column("tokens", sa.Column("expires", sa.Text))
