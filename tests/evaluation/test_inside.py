"""Masks read from the file beside the crops."""

import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.inside import load_masked_faces

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


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        ({"a": SQUARE, "b": SQUARE}, "says nothing of 1 crops, e.g. c"),
        ({"a": SQUARE, "b": SQUARE, "c": [[1, 2], [3, 4]]}, "needs four corners"),
        ({"a": SQUARE, "b": SQUARE, "c": "none"}, "needs four corners"),
        ({"a": SQUARE, "b": SQUARE, "c": [[0, 0], [20, 0], [20, 20], [0, 20]]}, "less than a tenth"),
        ({"a": None, "b": None, "c": None}, "cannot tell of any"),
    ],
)
def test_bad_files_are_refused_in_one_line(crops: Path, corners: dict[str, object], message: str) -> None:
    say(crops, **corners)
    with pytest.raises(EdgeError, match=message) as caught:
        load_masked_faces(crops)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_refused(crops: Path) -> None:
    crops.with_suffix(".inside.json").write_text("[1")
    with pytest.raises(EdgeError, match="not a JSON object"):
        load_masked_faces(crops)


def test_a_wanted_face_cannot_be_left_out(crops: Path) -> None:
    say(crops, a=SQUARE, b=None, c=SQUARE)
    with pytest.raises(EdgeError, match="cannot tell what of b"):
        load_masked_faces(crops, names=["b"])
