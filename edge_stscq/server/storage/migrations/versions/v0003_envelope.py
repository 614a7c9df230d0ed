"""Envelopes: faces are named by stream and number, and keep when and how they were captured.

Frames of wire version 1 become payloads with the checksum of version 2, of the stream that their device's name stands
for. A frame whose own checksum does not hold gets one that does not hold either: it stays damaged, and is said to be.
"""

import hashlib
import struct
import zlib

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_CHUNK = 1000
_LARGEST = 2**64 - 1
_MAX_PAYLOAD = 2**14 - 1


def upgrade() -> None:
    whole = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    real: TypeEngine[float] = sa.Double().with_variant(sa.REAL, "sqlite")
    connection = op.get_bind()
    for name in ("faces_revision", "faces_device_row", "faces_received"):
        op.drop_index(name, "faces")
    op.rename_table("faces", "faces_2")
    if connection.dialect.name != "sqlite":  # names of constraints and sequences belong to the schema, not to a table
        op.execute("ALTER TABLE faces_2 DROP CONSTRAINT faces_device_sequence")
        op.execute("ALTER TABLE faces_2 RENAME CONSTRAINT faces_pkey TO faces_2_pkey")
        op.execute("ALTER SEQUENCE faces_row_seq RENAME TO faces_2_row_seq")
    op.create_table(
        "faces",
        sa.Column("row", whole, primary_key=True),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("stream", sa.LargeBinary, nullable=False),
        sa.Column("sequence", whole, nullable=False),
        sa.Column("model", sa.LargeBinary, nullable=False),
        sa.Column("coder", sa.LargeBinary, nullable=False),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("clock", sa.Integer, nullable=False),
        sa.Column("captured", whole),
        sa.Column("track", whole),
        sa.Column("quality", sa.Integer),
        sa.Column("extensions", sa.LargeBinary, nullable=False),
        sa.Column("layers", sa.Integer, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("checksum", whole, nullable=False),
        sa.Column("received", real, nullable=False),
        sa.Column("occurred", real, nullable=False),
        sa.Column("revision", whole, nullable=False),
        sa.UniqueConstraint("stream", "sequence", name="faces_stream_sequence"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    _copy(connection)
    if connection.dialect.name != "sqlite":
        op.execute(
            "SELECT setval('faces_row_seq', greatest(1, (SELECT last_value FROM faces_2_row_seq)), "
            "(SELECT is_called FROM faces_2_row_seq))"
        )
    else:
        op.execute("DELETE FROM sqlite_sequence WHERE name = 'faces'")
        op.execute("UPDATE sqlite_sequence SET name = 'faces' WHERE name = 'faces_2'")
    op.drop_table("faces_2")
    op.create_index("faces_revision", "faces", ["revision"], unique=True)
    op.create_index("faces_device_row", "faces", ["device", "row"])
    op.create_index("faces_device_occurred", "faces", ["device", "occurred"])
    op.create_index("faces_received", "faces", ["received"])
    op.create_index("faces_occurred", "faces", ["occurred"])


def _copy(connection: sa.Connection) -> None:
    columns = "device, sequence, model, layers, frame, received, revision"
    query = sa.text(f'SELECT "row", {columns} FROM faces_2 WHERE "row" > :after ORDER BY "row" LIMIT {_CHUNK}')
    insert = sa.text(
        'INSERT INTO faces ("row", device, stream, sequence, model, coder, kind, clock, extensions, layers, payload, '
        "checksum, received, occurred, revision) VALUES (:row, :device, :stream, :sequence, :model, :coder, 0, 0, "
        ":empty, :layers, :payload, :checksum, :received, :received, :revision)"
    )
    after = -(2**63)
    while rows := connection.execute(query, {"after": after}).mappings().all():
        connection.execute(insert, [_converted(dict(row)) for row in rows])
        after = rows[-1]["row"]


def _converted(row: dict[str, object]) -> dict[str, object]:
    """A row in the new form; what the formats were on this day is written out, since they must not change here."""
    device, model, frame = str(row["device"]).encode(), bytes(row["model"]), bytes(row["frame"])  # type: ignore[call-overload]
    sequence, layers = int(row["sequence"]), int(row["layers"])  # type: ignore[call-overload]
    stream = hashlib.sha256(b"edge-stscq device\n" + device).digest()[:16]
    payload, is_whole = _payload(frame, model, layers)
    checksum = zlib.crc32(b"".join((
        b"STSQ\x02\0\0", model, bytes(8), stream, bytes([len(device) & 255]), device,
        struct.pack("<QQIBBBH", sequence & _LARGEST, 0, 0, 255, layers & 255, 0, len(payload)), payload,
    )))  # fmt: skip
    kept = {name: row[name] for name in ("row", "device", "sequence", "model", "layers", "received", "revision")}
    return kept | {
        "stream": stream, "coder": bytes(8), "empty": b"", "payload": payload,
        "checksum": checksum if is_whole else checksum ^ 1,
    }  # fmt: skip


def _payload(frame: bytes, model: bytes, layers: int) -> tuple[bytes, bool]:
    """Payload of a frame of version 1, and True if the frame is whole and has so many layers."""
    start = 2
    while start < min(len(frame), 5) and frame[start - 1] >= 0x80:
        start += 1
    body, crc = frame[:-4], frame[-4:]
    is_whole = zlib.crc32(body, zlib.crc32(model)).to_bytes(4, "little") == crc and frame[:1] == bytes([layers & 255])
    payload = body[start:]
    return payload[:_MAX_PAYLOAD], is_whole and len(payload) <= _MAX_PAYLOAD
