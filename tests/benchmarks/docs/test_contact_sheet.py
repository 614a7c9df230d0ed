"""A contact sheet has a band for eight faces and a row for each layer, of each model at equally many tokens in turn."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.docs.contact_sheet import ACROSS, GAP, MARGIN, decoded_rows, main, named_faces, sheet
from edge_stscq._images import read_image
from edge_stscq.errors import EdgeError
from targets.golden import candidates
from tests.conftest import REPOSITORY

NAMES = REPOSITORY / "benchmarks" / "docs" / "named_faces.toml"


def test_committed_names_are_24_faces() -> None:
    assert len(set(named_faces(NAMES))) == 24


def test_too_few_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "few.toml").write_text('some = ["A_0001"]')
    with pytest.raises(EdgeError, match="names 1 faces; a band of a sheet needs 8"):
        named_faces(tmp_path / "few.toml")
    (tmp_path / "none.toml").write_text("some = 3")
    with pytest.raises(EdgeError, match="holds no lists of names"):
        named_faces(tmp_path / "none.toml")


def test_rows_of_two_models_stand_by_their_tokens(tiny_model: Path, integer_model: Path) -> None:
    rows = decoded_rows([tiny_model, integer_model], np.stack(candidates(2)))
    tokens = [int(name.split()[-1]) for name, _ in rows]
    assert tokens == sorted(tokens)
    assert len({name.split()[0] for name, _ in rows}) == 2
    assert all(faces.shape == (2, 128, 128, 3) for _, faces in rows)


def test_sheet_names_rows_in_a_margin() -> None:
    rows = [(name, np.full((2 * ACROSS, 4, 4, 3), shade, np.uint8)) for name, shade in (("a", 10), ("b", 20))]
    plain, named = sheet(rows, named=False), sheet(rows, named=True)
    assert plain.shape == (2 * 8 + GAP, ACROSS * 4, 3)
    assert named.shape == (2 * 8 + GAP, MARGIN + ACROSS * 4, 3)
    assert np.array_equal(named[:, MARGIN:], plain)
    assert (named[:8, :MARGIN] < 255).any()


def test_named_faces_come_in_their_order(tiny_model: Path, tmp_path: Path) -> None:
    crops = tmp_path / "crops"
    crops.mkdir()
    names = [f"P_{number}" for number in range(ACROSS)]
    for number, name in enumerate(names):
        cv2.imwrite(str(crops / f"{name}.png"), np.full((128, 128, 3), 20 * number, np.uint8))
    listed = tmp_path / "names.toml"
    listed.write_text(f"some = {names[::-1]}")
    main(crops, tmp_path / "sheet.png", [tiny_model], names=listed, originals=True)
    top = read_image(tmp_path / "sheet.png")[:128]
    assert [int(face.mean()) for face in np.split(top, ACROSS, axis=1)] == [20 * n for n in range(ACROSS)][::-1]
