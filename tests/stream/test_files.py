"""Files of both versions, read and written by one codec."""

import pytest

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream import CodedFace, FrameCodec
from edge_stscq.stream.envelope import Clock, Kind, Source, WireFrame, stream_id
from edge_stscq.stream.frame import UnreadableFrameError, file_model_id
from edge_stscq.stream.wire import read_frames, write_stream

KEY = bytes(16)


def frame(codec: FrameCodec, face: CodedFace, **source: object) -> WireFrame:
    given = {"model_id": codec.model_id, "clock": Clock.NONE} | source
    return WireFrame(Source(stream_id(KEY), "door-1", **given), 0, face.layers, codec.payload(face))  # type: ignore[arg-type]


def test_read_both_versions(codec: FrameCodec, faces: list[CodedFace]) -> None:
    assert list(codec.read(codec.encode_stream(faces))) == faces
    assert list(codec.read(codec.write(faces))) == faces
    assert list(codec.read(codec.write([]))) == []


def test_write_follows_from_the_faces(codec: FrameCodec, faces: list[CodedFace]) -> None:
    assert codec.write(faces) == codec.write(faces)
    keys = {section.key for data in (codec.write(faces), codec.write(faces[1:])) for section, _ in read_frames(data)}
    assert len(keys) == 2


def test_file_model_id(codec: FrameCodec, faces: list[CodedFace]) -> None:
    assert file_model_id(codec.write(faces)) == file_model_id(codec.encode_stream(faces)) == codec.model_id
    with pytest.raises(FrameError, match="no frame"):
        file_model_id(codec.write([]))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"model_id": bytes(8)}, "model"),
        ({"kind": Kind.PROTECTED}, "protected template"),
        ({"coder_id": b"x" * 8}, "coder"),
    ],
)
def test_face_refuses_what_it_cannot_read(
    codec: FrameCodec, faces: list[CodedFace], source: dict[str, object], message: str
) -> None:
    with pytest.raises(UnreadableFrameError, match=message):
        codec.face(frame(codec, faces[0], **source))
    data = write_stream([frame(codec, faces[0], **source)], KEY)
    with pytest.raises(FrameError, match="frame 0"):
        list(codec.read(data))


def test_face_refuses_payloads_of_no_face(codec: FrameCodec, faces: list[CodedFace]) -> None:
    good = frame(codec, faces[0])
    assert codec.face(good) == faces[0]
    for layers, payload in ((good.layers, good.payload + b"\0"), (15, good.payload), (1, bytes(4000))):
        with pytest.raises(FrameError):
            codec.face(good.with_payload(layers, payload))


def test_write_refuses_a_device_without_a_name(codec: FrameCodec, faces: list[CodedFace]) -> None:
    with pytest.raises(EdgeError, match="cannot name a device"):
        codec.write(faces, device="")
