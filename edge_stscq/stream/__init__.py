"""Tokens to bytes and back: frame layout and integer entropy coding. Needs numpy only."""

from edge_stscq.stream.codes import Codes
from edge_stscq.stream.entropy import EntropyModel, model_id
from edge_stscq.stream.envelope import CapturedFace, Clock
from edge_stscq.stream.face import CodedFace
from edge_stscq.stream.frame import HEADER_BYTES, Frame, FrameCodec, stream_model_id
from edge_stscq.stream.protected import protected_face, read_protected
from edge_stscq.stream.tables import Tables

__all__ = [
    "HEADER_BYTES",
    "CapturedFace",
    "Clock",
    "CodedFace",
    "Codes",
    "EntropyModel",
    "Frame",
    "FrameCodec",
    "Tables",
    "model_id",
    "protected_face",
    "read_protected",
    "stream_model_id",
]
