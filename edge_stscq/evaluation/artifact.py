"""Encoders that a codec is judged with: an artifact, also where no runtime runs it, and the student in float32."""

from pathlib import Path

from edge_stscq.bundle import Bundle, open_bundle
from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.codec.integer.encoder import IntegerEncoder
from edge_stscq.codec.model import Codec
from edge_stscq.errors import EdgeError
from targets.subprocess_check import load_encoder_or_reference


def coded_by(codec: Codec, bundle: Bundle | Path) -> Codec:
    """The codec with the artifact of one of its bundles, in its runtime or its reference executor, as the encoder.

    Raises:
        EdgeError: the bundle is damaged, of another model, or its runtime is missing.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    codec.check_bundle(opened)
    return codec.with_encoder(load_encoder_or_reference(opened))


def in_full_precision(codec: Codec) -> Codec:
    """The codec with its student in float32: one made for integers as its float twin, another as it is.

    Raises:
        EdgeError: its encoder is no student.
    """
    student = codec.encoder
    if not isinstance(student, EdgeEncoder | IntegerEncoder):
        raise EdgeError(f"full precision is that of the student, not of {codec.name}; load that")
    return codec.with_encoder(student.float_twin())
