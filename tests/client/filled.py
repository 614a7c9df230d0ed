"""A spool with faces in it."""

from edge_stscq.client.spool import Spool
from edge_stscq.stream import FrameCodec


def fill(spool: Spool, codec: FrameCodec, faces: list[list[bytes]]) -> list[int]:
    return [spool.put_bytes(codec.model_id, frames, 5.0 + number) for number, frames in enumerate(faces)]
