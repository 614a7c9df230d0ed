"""Completion of what is no picture: better than the mean, nothing changed that is picture, the same from its file."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge_stscq._reporter import SILENCE
from edge_stscq.data.completion import Completion, complete_set
from edge_stscq.data.loader import FaceSet
from edge_stscq.errors import EdgeError

HELD = slice(0, 40)
"""Columns that are hidden."""
INSIDE = [[40, -50], [300, -50], [300, 300], [40, 300]]


def draw(index: int, side: int = 144) -> np.ndarray:
    """A smooth picture made of four patterns, in amounts that are the picture's own."""
    y, x = np.mgrid[0:side, 0:side] / side
    random = np.random.default_rng(index)
    patterns = [np.cos(np.pi * (a * x + b * y)) for a, b in ((0, 1), (1, 0), (1, 1), (1, 2))]
    amounts = random.normal(0, 22, (len(patterns), 3))
    picture: np.ndarray = np.clip(128 + np.einsum("pyx,pc->yxc", np.array(patterns), amounts), 0, 255).astype(np.uint8)
    return picture


def write(folder: Path, whole: int, partial: int, side: int = 144) -> FaceSet:
    """Pictures of which the last `partial` have lies (black) where they are hidden."""
    folder.mkdir()
    for index in range(whole + partial):
        image = draw(index, side)
        if index >= whole:
            image[:, HELD] = 0
        cv2.imwrite(str(folder / f"{index:03d}.png"), image[..., ::-1])
    inside = {f"{index:03d}.png": INSIDE for index in range(whole, whole + partial)}
    folder.with_name(folder.name + ".inside.json").write_text(json.dumps(inside))
    return FaceSet([folder])


def complete(faces: FaceSet, path: Path, components: int = 24) -> None:
    complete_set(faces, faces, components, path, SILENCE)


def test_hidden_border_is_recovered(tmp_path: Path) -> None:
    whole, least = 60, 3
    faces = write(tmp_path / "set", whole, 20)
    mean = np.mean([draw(index) for index in range(whole + 20)], axis=0)
    complete(faces, tmp_path / "completion.safetensors")
    ours, theirs = [], []
    for index in range(whole, whole + 20):
        truth = draw(index)[:, HELD].astype(float)
        ours.append(np.abs(faces.picture(index)[:, HELD] - truth).mean())
        theirs.append(np.abs(mean[:, HELD] - truth).mean())
    assert np.mean(ours) * least < np.mean(theirs)


def test_picture_inside_the_feathered_border_is_untouched(tmp_path: Path) -> None:
    faces = write(tmp_path / "set", 20, 4)
    before = [faces.read(index)[0] for index in range(24)]
    complete(faces, tmp_path / "completion.safetensors")
    for index in range(20):
        assert np.array_equal(faces.picture(index), before[index])
    for index in range(20, 24):
        deep = cv2.erode(faces.mask(index), np.ones((17, 17), np.uint8), borderValue=(255,)) > 0
        assert deep.mean() > 0.5
        assert np.array_equal(faces.picture(index)[deep], before[index][deep])
        assert not np.array_equal(faces.picture(index), before[index])


def test_completion_is_the_same_from_its_file(tmp_path: Path) -> None:
    faces, path = write(tmp_path / "set", 20, 4), tmp_path / "completion.safetensors"
    complete(faces, path)
    again = FaceSet([tmp_path / "set"])
    content = path.read_bytes()
    complete(again, path)
    assert path.read_bytes() == content
    assert all(np.array_equal(faces.picture(i), again.picture(i)) for i in range(24))
    assert all(faces.made_of(i) == again.made_of(i) for i in range(24))
    plain = FaceSet([tmp_path / "set"])
    assert plain.made_of(0) == faces.made_of(0), "a crop that is all picture keeps its embedding"
    assert plain.made_of(23) != faces.made_of(23)


def test_file_grows_with_new_crops(tmp_path: Path) -> None:
    path = tmp_path / "completion.safetensors"
    faces = write(tmp_path / "set", 20, 4)
    complete(faces, path)
    before = faces.picture(23)
    more = write(tmp_path / "more", 0, 22)
    complete(more, path)
    assert np.array_equal(faces.picture(23), before)
    assert len(Completion.load(path)._coefficients) == 4 + 22 - 2  # 20 and 21 are in both
    assert np.array_equal(more.picture(20), faces.picture(20))


def test_canonical_crops_without_a_margin_are_completed(tmp_path: Path) -> None:
    faces = write(tmp_path / "set", 20, 4, side=128)
    complete(faces, tmp_path / "completion.safetensors")
    assert faces.picture(23).shape == (128, 128, 3)
    assert faces.picture(23)[:, :30].min() > 0


def test_nothing_is_fitted_where_all_is_picture(tmp_path: Path) -> None:
    faces = write(tmp_path / "set", 3, 0)
    complete(faces, tmp_path / "completion.safetensors")
    assert faces.completion is None
    assert not (tmp_path / "completion.safetensors").exists()


def test_another_file_in_its_place_is_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "c.safetensors")
    with pytest.raises(EdgeError, match="holds no completion"):
        Completion.load(tmp_path / "c.safetensors")
