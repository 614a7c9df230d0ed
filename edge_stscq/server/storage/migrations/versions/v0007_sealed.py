"""Sealed faces, and the id of the key file that a store hangs on."""

import sqlalchemy as sa
from alembic import op

<<<<<<< HEAD:edge_stscq/server/storage/migrations/versions/v0007_sealed.py
revision = "0007"
=======
revision = "0008"
>>>>>>> 34dc9bc:edge_stscq/server/storage/migrations/versions/v0008_sealed.py
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("faces", sa.Column("sealed", sa.Integer, nullable=False, server_default="0"))
    op.add_column("changes", sa.Column("seal", sa.LargeBinary))
    op.add_column("changes", sa.Column("sealed", sa.Integer, nullable=False, server_default="0"))
