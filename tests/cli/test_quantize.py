"""`edge-stscq quantize` as a user runs it, on a few drawn pictures."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import cv2
import pytest
import typer
from typer.testing import CliRunner

from edge_stscq.cli.quantize import quantize
from edge_stscq.errors import EdgeError
from quantization import OBSERVERS, Calibration, Trial, pipeline
from targets.golden import candidates
from tests.support.models.calibrated_model import Calibrated

app = typer.Typer()
app.command()(quantize)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def model(calibrated: Calibrated, tmp_path: Path) -> Path:
    return Path(shutil.copytree(calibrated.folder, tmp_path / "model"))


@pytest.fixture
def run(model: Path, tmp_path: Path) -> Run:
    (tmp_path / "faces").mkdir()
    for index, picture in enumerate(candidates(11)):
        cv2.imwrite(str(tmp_path / "faces" / f"{index:02}.png"), picture)

    def run(*arguments: object) -> tuple[int, str, str]:
        texts = ["--model", model, "--faces", tmp_path / "faces", "--count", "8", "--held-out", "3", *arguments]
        result = CliRunner().invoke(app, [str(text) for text in texts], catch_exceptions=False, env={"COLUMNS": "80"})
        return result.exit_code, result.stdout, result.stderr

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_sensitivity_without_writing(run: Run, model: Path) -> None:
    before = files(model)
    code, text, _ = run("--sensitivity", "--dry-run", "--observer", "percentile", "--percentile", "99.9", "--json")
    assert code == 0
    assert files(model) == before
    report = json.loads(text)
    assert (report["observer"], report["faces"], report["held_out_faces"]) == ("percentile 99.9", 8, 3)
    assert report["calibration"] is None
    assert len(report["sensitivity"]) == 34
    assert report["sensitivity"][-1]["so_far"]["tokens"] == pytest.approx(1 - report["tokens"], abs=0.03)


def test_the_table_and_the_files(run: Run, model: Path) -> None:
    code, text, _ = run("--sensitivity", "--no-bias-correction")
    assert code == 0
    for part in ("identity.project", "linear 392 > 128", "on 3 held-out faces", "edge-stscq export"):
        assert part in text
    calibration = Calibration.load(model)
    assert calibration.count == 8
    assert calibration.biases == {}


def test_agreement_keeps_layers_in_the_file(run: Run, model: Path) -> None:
    clipped = "--observer", "percentile", "--percentile", "70", "--json"
    _, text, _ = run("--dry-run", *clipped)
    without = json.loads(text)["tokens"]
    assert without < 1
    code, text, _ = run("--agreement", str(without + 0.01), *clipped)
    assert code == 0
    report = json.loads(text)
    assert report["tokens"] > without
    assert 0 < len(report["kept"]) < 34
    assert Calibration.load(model).kept == tuple(report["kept"])


def test_an_agreement_that_leaves_no_int8_fails(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(simulation: Any, calibration: Calibration, *_: object) -> Trial:
        return Trial(replace(calibration, kept=simulation.names), 1.0)

    monkeypatch.setattr(pipeline, "search", everything)
    before = files(model)
    code, _, errors = run("--agreement", "1")
    assert code == 1
    assert "only full precision" in errors
    assert files(model) == before


def test_one_face_is_too_few(run: Run, tmp_path: Path) -> None:
    for picture in sorted((tmp_path / "faces").iterdir())[1:]:
        picture.unlink()
    with pytest.raises(EdgeError, match="at least two"):
        run()


def test_every_observer_can_be_asked_for() -> None:
    assert get_args(get_type_hints(quantize)["observer"]) == OBSERVERS
