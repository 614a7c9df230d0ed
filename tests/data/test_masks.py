"""Crops judged with what of them is picture, from the file beside them."""

import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_stscq.data.masks import load_masked_faces
from edge_stscq.errors import EdgeError

SQUARE = [[20, 20], [120, 20], [120, 100], [20, 100]]


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """A `.tar` of three training crops."""
    for name in "abc":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((144, 144, 3), 100, np.uint8))
    with tarfile.open(tmp_path / "faces.tar", "w") as archive:
        for name in "abc":
            archive.add(tmp_path / f"{name}.png", f"{name}.png")
    return tmp_path / "faces.tar"


def say(crops: Path, **corners: object) -> None:
    crops.with_suffix(".inside.json").write_text(json.dumps({f"{name}.png": value for name, value in corners.items()}))


def test_without_a_file_all_is_picture(crops: Path) -> None:
    faces, masks = load_masked_faces(crops)
    assert len(faces) == 3
    assert masks is None


def test_quadrilaterals_are_moved_to_the_crop_and_made_smaller(crops: Path) -> None:
    outside = [[-50, -50], [300, -50], [300, 300], [-50, 300]]
    say(crops, a=SQUARE, b=None, c=outside)
    faces, masks = load_masked_faces(crops)
    assert faces.names == ("a", "c")
    assert masks is not None
    rows, columns = np.nonzero(masks[0])
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (14, 110, 14, 90)
    assert masks[1].all()


def test_a_crop_without_an_entry_is_all_picture(crops: Path) -> None:
    say(crops, a=SQUARE)
    faces, masks = load_masked_faces(crops)
    assert faces.names == ("a", "b", "c")
    assert masks is not None
    assert [mask.all() for mask in masks] == [False, True, True]


def test_corners_are_pixels_of_the_stored_picture(tmp_path: Path) -> None:
    (tmp_path / "faces" / "part").mkdir(parents=True)
    for name, side in (("a", 128), ("b", 144)):
        cv2.imwrite(str(tmp_path / "faces" / "part" / f"{name}.png"), np.zeros((side, side, 3), np.uint8))
    square = np.array([[10, 20], [99, 20], [99, 109], [10, 109]])
    entries = {"part/a.png": square.tolist(), "b.png": (square + 8).tolist()}
    (tmp_path / "faces.inside.json").write_text(json.dumps(entries))
    _, masks = load_masked_faces(tmp_path / "faces")
    assert masks is not None
    assert np.array_equal(masks[0], masks[1])
    assert masks[0].sum() == 86 * 86
    assert masks[0][22:108, 12:98].all()


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        ({"a": SQUARE, "d": SQUARE}, r"faces\.inside\.json names d\.png, which is no crop of .*faces\.tar"),
        ({"c": [[1, 2], [3, 4]]}, r"faces\.inside\.json: c\.png: expected four corners"),
        ({"c": "none"}, "expected four corners"),
        ({"c": [[0, 0], [20, 0], [20, 20], [0, 20]]}, r"faces\.tar: c\.png: its quadrilateral leaves 1% of the crop"),
        ({"a": None, "b": None, "c": None}, "leaves out every crop"),
    ],
)
def test_bad_files_are_refused_in_one_line(crops: Path, corners: dict[str, object], message: str) -> None:
    say(crops, **corners)
    with pytest.raises(EdgeError, match=message) as caught:
        load_masked_faces(crops)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_refused(crops: Path) -> None:
    crops.with_suffix(".inside.json").write_text("[1")
    with pytest.raises(EdgeError, match="can't be read as JSON"):
        load_masked_faces(crops)


def test_a_wanted_face_cannot_be_left_out(crops: Path) -> None:
    say(crops, a=SQUARE, b=None, c=SQUARE)
    with pytest.raises(EdgeError, match=r"leaves out b\.png, which is wanted"):
        load_masked_faces(crops, names=["b"])
