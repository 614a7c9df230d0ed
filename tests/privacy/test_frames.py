"""Protected templates as frames: what is written is read, and nothing else is."""

from dataclasses import replace
from typing import Any

import pytest

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream import Clock, protected_face, read_protected
from edge_stscq.stream.envelope import WireFrame, stream_id
from edge_stscq.stream.frame import UnreadableFrameError
from edge_stscq.stream.wire import read_frames, write_stream

KEY, MODEL = bytes(range(16)), b"a model!"
TEMPLATE = b"\x02key id 8" + bytes(range(55))


def framed(template: bytes = TEMPLATE) -> WireFrame:
    captured = protected_face(template, MODEL, 1_790_000_000_000, Clock.SYNCHRONIZED, track=3, quality=80)
    (frame,) = captured.frames(stream_id(KEY), "door-1", 7)
    return frame


@pytest.mark.parametrize("size", [10, 64, 512])
def test_template_is_read_back_from_a_file_with_its_envelope(size: int) -> None:
    template = (TEMPLATE * 8)[:size]
    ((_, frame),) = read_frames(write_stream([framed(template)], KEY))
    assert frame == framed(template)
    assert read_protected(frame) == template
    assert (frame.source.model_id, frame.track, frame.quality) == (MODEL, 3, 80)


@pytest.mark.parametrize("size", [0, 9, 513])
def test_template_of_no_size_is_neither_written_nor_read(size: int) -> None:
    with pytest.raises(EdgeError, match=f"10 to 512 bytes travels, this has {size}"):
        protected_face(bytes(size), MODEL)
    with pytest.raises(FrameError, match=f"has 10 to 512 bytes, not {size}"):
        read_protected(framed().with_payload(1, bytes(size)))


def test_model_id_of_another_size_is_refused() -> None:
    with pytest.raises(EdgeError, match="a model id has 8 bytes, not 7"):
        protected_face(TEMPLATE, MODEL[:7])


def test_several_layers_are_refused() -> None:
    with pytest.raises(FrameError, match="has one layer, not 2"):
        read_protected(framed().with_payload(2, TEMPLATE))


@pytest.mark.parametrize(("source", "extensions", "reason"), [
    ({"kind": 0}, b"", "no protected template but kind 0"),
    ({"kind": 2}, b"", "no protected template but kind 2"),
    ({"coder_id": b"learned!"}, b"", "its coder 6c6561726e656421 is unknown"),
    ({}, b"\x85\x00", "its extension 133 is unknown here"),
])  # fmt: skip
def test_frame_that_is_no_template_is_refused_by_name(source: dict[str, Any], extensions: bytes, reason: str) -> None:
    frame = framed()
    other = replace(frame, source=replace(frame.source, **source), extensions=extensions, checksum=-1)
    with pytest.raises(UnreadableFrameError, match=reason):
        read_protected(other)
