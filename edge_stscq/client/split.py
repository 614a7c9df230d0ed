"""A stream file cut into its frames, without the tables that would decode them.

A sender need not know the model: layout and CRC tell where each frame ends and whether it is whole, so a damaged file
is noticed on the device, before anything travels.
"""

import zlib
from pathlib import Path

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream.face import LAYERS
from edge_stscq.stream.frame import CRC_BYTES, HEADER_BYTES, stream_model_id

_LENGTH_BYTES = 4
"""Most bytes of a payload length."""


def read_stream(path: Path) -> bytes:
    """The bytes of a stream file.

    Raises:
        EdgeError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise EdgeError(f"cannot read {path}: {error.strerror}; make one with `edge-stscq encode`") from None


def split_stream(data: bytes) -> tuple[bytes, list[bytes]]:
    """Header and frames of a stream; joined again they are `data`.

    Raises:
        FrameError: the header is not one, or a frame is truncated or fails its CRC; names the frame and its offset.
    """
    seed = zlib.crc32(stream_model_id(data))
    frames: list[bytes] = []
    offset = HEADER_BYTES
    while offset < len(data):
        try:
            end = _frame_end(data, offset, seed)
        except FrameError as error:
            raise FrameError(f"frame {len(frames)} at byte {offset}: {error}") from None
        frames.append(data[offset:end])
        offset = end
    return data[:HEADER_BYTES], frames


def _frame_end(data: bytes, offset: int, seed: int) -> int:
    """Offset behind the frame at `offset`, once its CRC was right."""
    if not 1 <= data[offset] <= LAYERS:
        raise FrameError(f"layer count {data[offset]} is not 1 to {LAYERS}: the frame is damaged or is not one")
    field = data[offset + 1 : offset + 1 + _LENGTH_BYTES]
    size = next((position + 1 for position, byte in enumerate(field) if byte < 0x80), 0)
    if not size:
        raise FrameError("truncated in its length" if len(field) < _LENGTH_BYTES else "its length is damaged")
    length = sum((byte & 0x7F) << 7 * position for position, byte in enumerate(field[:size]))
    body_end = offset + 1 + size + length
    end = body_end + CRC_BYTES
    if end > len(data):
        raise FrameError(f"truncated: {end - len(data)} bytes of the frame are missing")
    if zlib.crc32(data[offset:body_end], seed) != int.from_bytes(data[body_end:end], "little"):
        raise FrameError("checksum differs: the frame is damaged; encode it again")
    return end
