"""Protected templates as frames (docs/spec/wire.md, kind 1): whole, bounded, and not looked into.

A template is the scheme's number u8, a key's id of 8 bytes, and what the scheme defines. Whoever carries or stores one
needs no more of it; only a holder of its key can match it (`edge_stscq.privacy`).
"""

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream.entropy import MODEL_ID_BYTES
from edge_stscq.stream.envelope import STATIC_TABLES, CapturedFace, Clock, Kind, WireFrame
from edge_stscq.stream.frame import UnreadableFrameError

MAX_TEMPLATE = 512
_SHORTEST = 10
"""Bytes: scheme, key id, and one of content."""


def protected_face(
    template: bytes, model_id: bytes, captured_ms: int | None = None, clock: Clock = Clock.NONE, *,
    track: int | None = None, quality: int | None = None,
) -> CapturedFace:  # fmt: skip
    """A protected template on its way to a spool, a file or a server.

    Args:
        template: 10 to 512 bytes, of `Scheme.enroll`.
        model_id: 8 bytes, of the model whose tokens the embedding was read from: it compares with no other model's.
        captured_ms: milliseconds since 1970 UTC; None exactly without a clock.
        track, quality: as in `WireFrame`.

    Raises:
        EdgeError: the template or the model id has another size.

    Example:
        >>> captured = protected_face(scheme.enroll(embedding, key), bundle.frames.model_id)
        >>> spool.put(captured)
    """
    if not _SHORTEST <= len(template) <= MAX_TEMPLATE:
        raise EdgeError(
            f"a template of {_SHORTEST} to {MAX_TEMPLATE} bytes travels, this has {len(template)}; use rotated"
        )
    if len(model_id) != MODEL_ID_BYTES:
        raise EdgeError(f"a model id has {MODEL_ID_BYTES} bytes, not {len(model_id)}")
    return CapturedFace(model_id, ((1, template),), captured_ms, clock, track, quality, kind=Kind.PROTECTED)


def read_protected(frame: WireFrame) -> bytes:
    """The template of a frame whose checksum holds.

    Raises:
        UnreadableFrameError: it holds no template, or is of a newer device.
        FrameError: no writer makes such a frame of a template.
    """
    source = frame.source
    if source.kind != Kind.PROTECTED:
        raise UnreadableFrameError(f"it holds no protected template but kind {source.kind}")
    if source.coder_id != STATIC_TABLES:
        raise UnreadableFrameError(f"its coder {source.coder_id.hex()} is unknown here")
    if (extension := frame.unknown_extension) is not None:
        raise UnreadableFrameError(f"its extension {extension} is unknown here; update this program")
    if frame.layers != 1:
        raise FrameError(f"a protected template has one layer, not {frame.layers}")
    if not _SHORTEST <= len(frame.payload) <= MAX_TEMPLATE:
        raise FrameError(
            f"a protected template has {_SHORTEST} to {MAX_TEMPLATE} bytes, not {len(frame.payload)}: it is cut off or "
            "of no scheme"
        )
    return frame.payload
