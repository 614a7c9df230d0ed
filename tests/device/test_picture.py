"""Detection and alignment of one picture, as the public functions do them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_stscq._images import read_image
from edge_stscq.device.crop import crop_face
from edge_stscq.device.detect import Detector
from edge_stscq.device.picture import align, detect
from edge_stscq.errors import EdgeError


def test_align_cuts_the_largest_face(portrait: dict[str, Path], detector: Detector) -> None:
    picture = read_image(str(portrait["astronaut"]))
    found = detector.largest(picture)
    face = detect(picture)
    assert found is not None
    assert face is not None
    assert np.array_equal(face.points, found.points)
    assert np.array_equal(align(picture), crop_face(picture, found.points))
    assert np.array_equal(align(picture, face.points.tolist()), align(picture))


def test_align_says_where_there_is_no_face() -> None:
    empty = np.zeros((200, 200, 3), np.uint8)
    assert detect(empty) is None
    with pytest.raises(EdgeError, match="no face found"):
        align(empty)


@pytest.mark.parametrize("landmarks", [np.zeros((5, 2)), np.zeros((4, 2)), np.full((5, 2), np.nan)])
def test_align_refuses_landmarks_of_no_face(landmarks: Any) -> None:
    with pytest.raises(EdgeError):
        align(np.zeros((200, 200, 3), np.uint8), landmarks)


@pytest.mark.parametrize(
    "picture", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), "a.png", np.zeros((0, 9, 3), np.uint8)]
)
def test_pictures_are_uint8_rgb(picture: Any) -> None:
    with pytest.raises(EdgeError, match="a picture is uint8"):
        detect(picture)
