"""`edge-stscq evaluate` as a user runs it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from edge_stscq.cli.evaluate import evaluate
from edge_stscq.errors import EdgeError

app = typer.Typer()
app.command()(evaluate)


@pytest.fixture
def lfw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options naming two folds of one pair each way, with noise for faces, and no recognisers."""
    monkeypatch.delenv("EDGE_STSCQ_DATA", raising=False)
    (tmp_path / "pairs.txt").write_text("2\t1\nA\t1\t2\nA\t1\tB\t1\nC\t1\t2\nC\t1\tD\t1\n")
    (tmp_path / "crops").mkdir()
    generator = np.random.default_rng(0)
    for name in ("A_0001", "A_0002", "B_0001", "C_0001", "C_0002", "D_0001", "unused_0001"):
        cv2.imwrite(str(tmp_path / "crops" / f"{name}.png"), generator.integers(0, 256, (128, 128, 3), np.uint8))
    return ["--crops", str(tmp_path / "crops"), "--pairs", str(tmp_path / "pairs.txt"), "--cache", str(tmp_path)]


def test_json_is_one_object_of_every_layer(four_layer_model: Path, lfw: list[str]) -> None:
    result = CliRunner().invoke(app, ["--model", str(four_layer_model), *lfw, "--json"], catch_exceptions=False)
    report = json.loads(result.stdout)
    assert report["faces"] == 6
    assert report["subject"] == "student"
    assert [layer["name"] for layer in report["layers"]] == ["basic", "middle", "enhanced", "fine"]
    assert {layer["compressed"]["folds"] for layer in report["layers"]} == {2}
    assert report["protocol"].startswith("LFW view 2, 4 pairs in 2 folds")


def test_table_says_that_there_was_no_judge(tiny_model: Path, lfw: list[str]) -> None:
    result = CliRunner().invoke(app, ["--model", str(tiny_model), *lfw, "--layers", "1"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "basic" in result.stdout
    assert "--recognisers" in result.stdout


def test_more_layers_than_the_model_has_are_refused(tiny_model: Path, lfw: list[str]) -> None:
    with pytest.raises(EdgeError, match=r"model tiny has 3 layers \(basic, middle, enhanced\); choose 1 to 3"):
        CliRunner().invoke(app, ["--model", str(tiny_model), *lfw, "--layers", "4"], catch_exceptions=False)


def test_cut_folds_are_refused(tiny_model: Path, lfw: list[str]) -> None:
    with pytest.raises(EdgeError, match="whole folds"):
        CliRunner().invoke(app, ["--model", str(tiny_model), *lfw, "--first", "3"], catch_exceptions=False)


def test_missing_crops_are_named(tiny_model: Path, lfw: list[str]) -> None:
    (Path(lfw[1]) / "D_0001.png").unlink()
    with pytest.raises(EdgeError, match="D_0001"):
        CliRunner().invoke(app, ["--model", str(tiny_model), *lfw], catch_exceptions=False)


def test_real_faces_and_recognizers(tiny_model: Path, shared_data: Path, tmp_path: Path) -> None:
    """Four same-person and four other pairs: the judge is right about the originals, a random codec keeps nothing."""
    lines = (shared_data / "lfw" / "pairs.txt").read_text().splitlines()
    (tmp_path / "pairs.txt").write_text("\n".join(["2\t2", *lines[1:3], *lines[301:303], *lines[3:5], *lines[303:305]]))
    arguments = ["--model", str(tiny_model), "--crops", str(shared_data / "lfw" / "lfw-crops.tar"),
                 "--pairs", str(tmp_path / "pairs.txt"), "--recognisers", str(shared_data / "recognisers"),
                 "--recogniser", "mobilefacenet192", "--layers", "3", "--cache", str(tmp_path / "cache"),
                 "--json"]  # fmt: skip
    report = json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).stdout)
    assert report["originals"]["mobilefacenet192"]["accuracy"] == 1
    (layer,) = report["layers"]
    assert layer["identity"]["mobilefacenet192"] < 0.5
