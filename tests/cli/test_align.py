"""`edge-stscq align` as a user runs it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from edge_stscq._images import read_image
from edge_stscq.cli.align import align
from edge_stscq.errors import EXIT_CHECK_FAILED, EdgeError

app = typer.Typer()
app.command()(align)


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def photos(tmp_path: Path, portrait: dict[str, Path]) -> Path:
    folder = tmp_path / "photos"
    for name, path in portrait.items():
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name}_0001{path.suffix}").write_bytes(path.read_bytes())
    cv2.imwrite(str(folder / "wall.png"), np.full((200, 300, 3), 120, np.uint8))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    (folder / "notes.txt").write_text("no photograph")
    return folder


def test_crops_keep_folders_and_names(photos, tmp_path):
    done = run(photos, "-o", tmp_path / "crops", "--json")
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert report["crops"] == 2
    assert report["left_out"].keys() == {"wall.png", "broken.jpg"}
    made = sorted(path.relative_to(tmp_path / "crops").as_posix() for path in (tmp_path / "crops").rglob("*.png"))
    assert made == ["astronaut/astronaut_0001.png", "grace_hopper/grace_hopper_0001.png"]
    assert read_image(tmp_path / "crops" / made[0]).shape == (128, 128, 3)


def test_one_photograph_is_enough_and_one_without_a_face_is_not(photos, portrait, tmp_path):
    assert "1 crop in" in run(portrait["astronaut"], "-o", tmp_path / "crops").stdout
    assert run(photos / "wall.png", "-o", tmp_path / "none").exit_code == EXIT_CHECK_FAILED
    assert not (tmp_path / "none").exists()


def test_align_refuses_two_photographs_of_one_name(photos, tmp_path):
    """Two photographs of one name are refused before anything is written."""
    (photos / "wall.jpg").write_bytes((photos / "wall.png").read_bytes())
    with pytest.raises(EdgeError, match="would both become one crop"):
        run(photos, "-o", tmp_path / "crops")
    with pytest.raises(EdgeError, match="does not exist; give a folder of photographs"):
        run(tmp_path / "absent", "-o", tmp_path / "crops")
    assert not (tmp_path / "crops").exists()
