"""Pairs that training runs are chosen by, and dlib on our crops."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq._package_files import package_file
from edge_stscq.codec.model import Codec
from edge_stscq.data.crops import Faces
from edge_stscq.errors import EdgeError, MissingExtraError
from edge_stscq.evaluation.choosing import choice, choose_pairs
from edge_stscq.recognizers.dlib_resnet import DlibRecognizer, chip

ALL = frozenset(f"{person}_{number:04d}" for person in "ABCDEF" for number in (1, 2, 3))


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "pairsDevTrain.txt"
    path.write_text("3\nA\t1\t2\nB\t1\t2\nC\t1\t3\nA\t1\tB\t1\nC\t1\tD\t1\nE\t1\tF\t1\n")
    return path


def test_half_are_one_persons_and_all_are_there(listed: Path) -> None:
    pairs = choose_pairs(listed, ALL - {"B_0001"}, count=4)
    assert list(zip(pairs.first, pairs.second, pairs.same, strict=True)) == [
        ("A_0001", "A_0002", True), ("C_0001", "C_0003", True),
        ("C_0001", "D_0001", False), ("E_0001", "F_0001", False),
    ]  # fmt: skip
    assert (pairs.present, pairs.listed) == (4, 6)
    assert choose_pairs(listed, ALL, count=4).digest != pairs.digest


def test_pairs_of_the_test_are_left_alone(listed: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("2\t1\nA\t2\t1\nB\t1\tA\t1\n")
    pairs = choose_pairs(listed, ALL, tmp_path / "pairs.txt", count=4)
    assert {"A_0001", "A_0002"} & pairs.names == set()


def test_too_few_pairs_and_odd_counts_are_refused(listed: Path) -> None:
    with pytest.raises(EdgeError, match="3 pairs of one person have both pictures, not 4"):
        choose_pairs(listed, ALL, count=8)
    with pytest.raises(EdgeError, match="even --count"):
        choose_pairs(listed, ALL, count=3)


def test_a_missing_package_says_how_to_get_it() -> None:
    with pytest.raises(MissingExtraError, match="no-such-package is not installed; run: pip install it"):
        package_file("no-such-package", "a.dat", "it")
    with pytest.raises(MissingExtraError, match="no-such-file of the package numpy"):
        package_file("numpy", "numpy/no-such-file", "numpy")


def test_eyes_lie_in_a_chip_where_dlib_puts_them() -> None:
    crop = np.zeros((128, 128, 3), np.uint8)
    for x, y in ((46, 62), (80, 62)):
        crop[y - 1 : y + 2, x - 1 : x + 2] = 255
    for side, expected in ((slice(0, 75), 47.7), (slice(75, 150), 100.3)):
        weight = chip(crop)[:, side, 0].astype(float)
        rows, columns = np.mgrid[0:150, side]
        assert (columns * weight).sum() / weight.sum() == pytest.approx(expected, abs=1.5)
        assert (rows * weight).sum() / weight.sum() == pytest.approx(47.1, abs=1.5)


def test_dlib_tells_people_apart_and_a_model_is_measured_by_it(tiny_model: Path, people: NDArray[np.uint8]) -> None:
    net = DlibRecognizer()
    first, darker, other = net.embed(np.stack([people[0], (people[0] * 0.8).astype(np.uint8), people[1]]))
    assert np.linalg.norm(first - darker) < 0.3 < 0.6 < np.linalg.norm(first - other)


def test_a_model_is_measured(tiny_model: Path, people: NDArray[np.uint8], listed: Path) -> None:
    names = ("A_0001", "A_0002", "C_0001", "D_0001")
    listed.write_text("1\nA\t1\t2\nC\t1\tD\t1\n")
    pairs = choose_pairs(listed, frozenset(names), count=2)
    faces = Faces(names, people[[0, 0, 0, 1]])
    done: list[int] = []
    found = choice(Codec.load(tiny_model), faces, pairs, faces, np.ones((4, 128, 128)), done.append)
    assert sum(done) == 8
    assert found.originals == 1
    assert [layer.tokens for layer in found.layers] == [4, 8, 12]
    assert all(layer.frechet > 1 and layer.distance > 0.3 for layer in found.layers)
