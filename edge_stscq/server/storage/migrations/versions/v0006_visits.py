"""Visits and persons: whose faces are of one visit, and whose visits of one person."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    whole = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    real: TypeEngine[float] = sa.Double().with_variant(sa.REAL, "sqlite")
    op.create_table(
        "visits",
        sa.Column("id", whole, primary_key=True, autoincrement=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("stream", sa.LargeBinary, nullable=False),
        sa.Column("track", whole),
        sa.Column("model", sa.LargeBinary, nullable=False),
        sa.Column("began", real, nullable=False),
        sa.Column("ended", real, nullable=False),
        sa.Column("person", whole, nullable=False),
        sa.Column("changed", whole, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("visits_began", "visits", ["began", "id"])
    op.create_index("visits_device_began", "visits", ["device", "began", "id"])
    op.create_index("visits_person", "visits", ["person"])
    op.create_index("visits_changed", "visits", ["changed"])
    op.create_table(
        "visit_faces",
        sa.Column("stream", sa.LargeBinary, primary_key=True),
        sa.Column("sequence", whole, primary_key=True),
        sa.Column("visit", whole, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("visit_faces_visit", "visit_faces", ["visit"])
    op.create_table(
        "persons",
        sa.Column("id", whole, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text),
        sa.Column("hidden", sa.Integer, nullable=False),
        sa.Column("edited", sa.Integer, nullable=False),
        sa.Column("feature_stream", sa.LargeBinary),
        sa.Column("feature_sequence", whole),
        sa.Column("changed", whole, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("persons_changed", "persons", ["changed"])
    op.create_table(
        "enrollments",
        sa.Column("id", whole, primary_key=True, autoincrement=False),
        sa.Column("person", whole, nullable=False),
        sa.Column("model", sa.LargeBinary, nullable=False),
        sa.Column("layers", sa.Integer, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("quality", sa.Integer, nullable=False),
        sa.Column("at", real, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("enrollments_person", "enrollments", ["person"])
    op.create_table(
        "edits",
        sa.Column("id", whole, primary_key=True, autoincrement=False),
        sa.Column("at", real, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("before", sa.Text, nullable=False),
        sa.Column("undone", sa.Integer, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "edit_persons",
        sa.Column("edit", whole, primary_key=True, autoincrement=False),
        sa.Column("person", whole, primary_key=True, autoincrement=False),
        sqlite_strict=True,
    )
    op.create_index("edit_persons_person", "edit_persons", ["person"])
    op.create_table(
        "gone",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("id", whole, primary_key=True, autoincrement=False),
        sa.Column("changed", whole, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("gone_changed", "gone", ["changed"])
    op.create_table(
        "grouping",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", whole, nullable=False),
        sa.Column("changed", whole, nullable=False),
        sa.Column("made", whole, nullable=False),
        sa.Column("passed", whole, nullable=False),
        sqlite_strict=True,
    )
    op.execute("INSERT INTO grouping (id, revision, changed, made, passed) VALUES (1, 0, 0, 0, 0)")
