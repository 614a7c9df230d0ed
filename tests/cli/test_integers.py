"""The commands of export with a model whose student is made for integers."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from edge_stscq.cli.encode import encode
from edge_stscq.cli.export import export
from edge_stscq.cli.parity import parity
from edge_stscq.cli.quantize import quantize
from edge_stscq.cli.selftest import selftest
from edge_stscq.codec.model import Codec
from edge_stscq.evaluation.speed import benchmark
from targets.golden import candidates

app = typer.Typer()
for command in (encode, export, parity, quantize, selftest):
    app.command()(command)


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def bundle(integer_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bundles")
    found = json.loads(run("export", "--model", integer_model, "-t", "ort", "-o", place, "--json"))["bundles"][0]
    assert (found["target"], found["precision"], found["agreement"]) == ("onnx", "int8", 1)
    assert (place / "onnx-int8" / "manifest.json").is_file()
    assert 0 < found["network_bytes"] < found["artefact_bytes"]
    return Path(found["folder"])


def test_quantize_says_that_nothing_needs_to_be_done(integer_model: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in integer_model.iterdir()}
    said = run("quantize", "--model", integer_model, "--faces", tmp_path)
    assert said.count("\n") == 1
    assert "was trained in integers: it needs no calibration" in said
    report = json.loads(run("quantize", "--model", integer_model, "--faces", tmp_path, "--json"))
    assert report["integers"] is True
    assert report["calibration"] is None
    assert before == {path.name: path.read_bytes() for path in integer_model.iterdir()}


def test_selftest_and_encode_take_such_a_bundle(bundle: Path, tmp_path: Path) -> None:
    assert "passed" in run("selftest", bundle)
    for number, picture in enumerate(candidates(3)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
    run("encode", bundle, *sorted(tmp_path.glob("*.png")), "-o", tmp_path / "faces.stsq")
    assert (tmp_path / "faces.stsq").stat().st_size > 0


def test_parity_gates_what_int8_costs_and_not_its_tokens(bundle: Path, integer_model: Path) -> None:
    result = CliRunner().invoke(app, ["parity", str(bundle), "--model", str(integer_model), "--json"])
    report = json.loads(result.stdout.splitlines()[0])
    limits = {check["figure"].split(" (")[0]: check["limit"] for check in report["checks"]}
    assert limits == {
        "token agreement of artefact and its graph": 1.0, "excess distortion of the worst layer": 0.01,
        "identity cosine": 0.99,
    }  # fmt: skip
    assert report["runtime"]["tokens"] == 1
    assert report["device"]["tokens"] < 1
    assert np.shape(report["device"]["layers"]) == (2,)


def test_bench_reports_the_artifact_without_codebooks(bundle: Path, integer_model: Path) -> None:
    """The row of its bundle; `tests/cli/test_bench.py` runs the command, in which it stands beside the others'."""
    (case,) = benchmark.bundles([bundle], Codec.load(integer_model), macs=1)
    row = case.row
    assert row.status == "passed"
    entries = 2 * (7 + 2) * 16
    assert row.artefact_bytes is not None
    assert row.network_bytes == row.artefact_bytes - entries * (4 + 4), "four numbers of int8 and a norm each"
    assert row.fell_back is not None
    assert not any("Conv" in kind for kind in row.fell_back)
