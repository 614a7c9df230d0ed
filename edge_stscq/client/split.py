"""A stream file cut into its frames, without the tables that would decode them.

A sender need not know the model: layout and CRC tell where each frame ends and whether it is whole, so a damaged file
is noticed on the device, before anything travels.
"""

from pathlib import Path

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream.frame import HEADER_BYTES, check_frame, stream_model_id


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
    model_id = stream_model_id(data)
    frames: list[bytes] = []
    offset = HEADER_BYTES
    while offset < len(data):
        try:
            end = check_frame(data, offset, model_id).end
        except FrameError as error:
            raise FrameError(f"frame {len(frames)} at byte {offset}: {error}") from None
        frames.append(data[offset:end])
        offset = end
    return data[:HEADER_BYTES], frames
