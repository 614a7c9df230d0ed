"""From picture to frame, with an encoder that needs no model."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from demo_camera.loop import Capture, CaptureLoop
from demo_camera.sources import open_source
from edge_stscq._images import read_image
from edge_stscq.errors import EdgeError
from edge_stscq.stream import CodedFace
from edge_stscq.stream.wire import frame_bound


def run(loop: CaptureLoop, source: Path) -> list[Capture]:
    return [captured for captured in loop.run(open_source(str(source))) if captured is not None]


def coded_face(loop: CaptureLoop, captured: Capture) -> CodedFace:
    (frame,) = captured.coded.frames(bytes(16), "camera", 0)
    return loop.codec.face(frame)


def test_a_portrait_becomes_one_frame(loop: CaptureLoop, portrait: dict[str, Path]) -> None:
    (captured,) = run(loop, portrait["astronaut"])
    face = coded_face(loop, captured)
    assert face == loop.encoder.encode(captured.crop, 3)
    assert len(set(face.tokens.tolist())) > 3, "the crop is a picture, not a flat colour"
    assert captured.coded.payloads == ((face.layers, loop.codec.payload(face)),)
    counters = loop.counters
    assert (counters.pictures, counters.faces, counters.rejected) == (1, 1, {})
    assert (counters.payload_bytes, counters.wire_bytes) == (
        captured.coded.payload_bytes,
        frame_bound(captured.coded.payload_bytes),
    )


def test_the_crop_is_aligned_and_red_is_first(loop: CaptureLoop, portrait: dict[str, Path]) -> None:
    """In the crop of a second pass the face sits where it sat in the first, and skin is redder than blue."""
    (captured,) = run(loop, portrait["grace_hopper"])
    again = loop.detector.largest(captured.crop)
    assert again is not None
    np.testing.assert_allclose(again.points, [(46, 60), (82, 60), (64, 80), (49, 97), (80, 98)], atol=5)
    red, _, blue = captured.crop[70:90, 50:80].reshape(-1, 3).mean(0)
    assert red > blue + 20


@pytest.mark.parametrize("layers", [1, 2])
def test_fewer_layers_travel(layers: int, loop: CaptureLoop, portrait: dict[str, Path]) -> None:
    (whole,) = run(loop, portrait["astronaut"])
    loop.layers = layers
    (captured,) = run(loop, portrait["astronaut"])
    face = coded_face(loop, captured)
    assert face == CodedFace(1, loop.encoder.encode(captured.crop, 3).tokens[: 4 * layers], layers)
    assert captured.coded.payload_bytes < whole.coded.payload_bytes


def test_a_picture_without_a_face_is_an_error(loop: CaptureLoop, tmp_path: Path) -> None:
    path = tmp_path / "wall.png"
    assert cv2.imwrite(str(path), np.full((200, 300, 3), 170, np.uint8))
    with pytest.raises(EdgeError, match=r"^wall\.png: no face found; give a sharp picture with a face"):
        run(loop, path)


def test_a_folder_without_a_usable_face_says_why(loop: CaptureLoop, tmp_path: Path, portrait: dict[str, Path]) -> None:
    portrait_blurred = cv2.GaussianBlur(read_image(portrait["grace_hopper"]), (0, 0), 8)
    for name, image in {"a": np.full((90, 90, 3), 9, np.uint8), "b": portrait_blurred, "c": portrait_blurred}.items():
        assert cv2.imwrite(str(tmp_path / f"{name}.png"), image[..., ::-1])
    with pytest.raises(EdgeError, match=r"no face captured in 3 pictures \(2 too blurred, 1 no face\); give"):
        run(loop, tmp_path)


def test_a_video_is_captured_and_its_empty_pictures_are_counted(
    loop: CaptureLoop, tmp_path: Path, portrait: dict[str, Path]
) -> None:
    image = read_image(portrait["astronaut"])
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (512, 512))
    for picture in (image, np.zeros_like(image), image, image):
        writer.write(picture[..., ::-1])
    writer.release()
    shots = run(loop, path)
    assert [captured.picture for captured in shots] == [f"clip.avi picture {i}" for i in (0, 2, 3)]
    assert loop.counters.pictures == 4
    assert loop.counters.rejected == {"no face": 1}
