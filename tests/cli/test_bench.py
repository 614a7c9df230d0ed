"""`edge-stscq bench encode` on bundles that pass, differ and are broken. How long anything takes is not asserted."""

import json
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
import typer
from torch import nn
from typer.testing import CliRunner

import edge_stscq as es
from edge_stscq.bundle.manifest import GOLDEN, Manifest, sha256_files
from edge_stscq.cli.bench import encode
from edge_stscq.errors import EXIT_CHECK_FAILED, EdgeError, MissingExtraError
from edge_stscq.evaluation.speed import benchmark
from edge_stscq.evaluation.speed.benchmark import interleaved, macs_of, picture_codec
from targets.golden import candidates

app = typer.Typer()
app.command()(encode)


@pytest.fixture(scope="module", autouse=True)
def _each_process_once() -> Iterator[None]:
    """A fresh process measures the same bundle or network once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "run_module", cache(benchmark.run_module))
        yield


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Path:
    return tiny_bundle


@pytest.fixture
def altered(bundle: Path, tmp_path: Path) -> Path:
    """Its golden tokens are others."""
    folder = Path(shutil.copytree(bundle, tmp_path / "altered"))
    golden = safetensors.numpy.load_file(folder / GOLDEN)
    safetensors.numpy.save_file(
        golden | {"tokens": golden["tokens"] ^ 1, "other_tokens": golden["tokens"] ^ 1}, folder / GOLDEN
    )
    manifest = Manifest.load(folder)
    Manifest.model_validate(manifest.model_dump() | {"files": sha256_files(folder)}).save(folder)
    return folder


@pytest.fixture
def broken(bundle: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(bundle, tmp_path / "broken"))
    (folder / "encoder.onnx").write_bytes(b"")
    return folder


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    return done.exit_code, done.stdout


def test_every_bundle_is_marked_and_what_runs_is_timed(
    bundle: Path, altered: Path, broken: Path, tiny_model: Path
) -> None:
    code, text = run(broken, bundle, altered, "--model", tiny_model, "--rounds", 5, "--threads", 1, "--json")
    assert code == EXIT_CHECK_FAILED
    report = json.loads(text)
    rows = report["encoders"]
    assert [row["status"] for row in rows[:3]] == ["failed", "passed", "exported, failed parity"]
    assert [row["name"] for row in rows[3:]] == ["student", "teacher", "WebP", "AVIF"]
    assert "encoder.onnx was altered" in rows[0]["reason"]
    assert rows[0]["runs"] == []
    assert rows[2]["reason"].startswith("tokens[0, 0]")
    for row in rows[1:]:
        (timed,) = row["runs"]
        assert 0 < timed["encode"]["least_ms"] <= timed["encode"]["median_ms"] <= timed["encode"]["p90_ms"]
        assert (timed["frame"] is not None) == (row["artefact_bytes"] is not None)
        assert (timed["of_peak"] is not None) == (row["precision"] is not None)
    assert rows[1]["artefact_bytes"] == (bundle / "encoder.onnx").stat().st_size
    for row in rows[1:5]:
        assert 0 < row["memory"]["before_mib"] < row["memory"]["peak_mib"]
    assert rows[1]["memory"]["peak_mib"] < rows[3]["memory"]["peak_mib"], "a device needs no torch"
    assert report["student_macs"] < report["teacher_macs"]
    assert report["peaks"][0]["int8"] > 0
    assert report["skipped"] == {}


def test_the_table_says_what_is_missing(bundle: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    code, text = run(bundle, "--model", tiny_model, "--rounds", 5, "--threads", 1)
    assert code == 0
    assert "not measured: WebP: PIL.Image is not installed; run: pip install 'edge-stscq[bench]'" in text
    assert "onnx fp32" in text
    assert "passed" in text


def test_the_verb_times_a_bundle_on_crops(bundle: Path, tiny_model: Path) -> None:
    report = es.benchmark([bundle], es.Codec.load(tiny_model), np.stack(candidates(2)), threads=[1], rounds=2)
    assert report.passed
    assert report.pictures == 2
    assert report.encoders[0].name == "onnx fp32"
    assert all(run.encode.median_ms > 0 for row in report.encoders for run in row.runs)


def test_a_bundle_of_another_model_is_refused(bundle: Path, tiny_model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tiny_model, tmp_path / "other"))
    books = safetensors.numpy.load_file(other / "codebooks.safetensors")["books"]
    safetensors.numpy.save_file({"books": books + 1}, other / "codebooks.safetensors")
    with pytest.raises(EdgeError, match="give the model it was exported from"):
        run(bundle, "--model", other, "--rounds", 5)


def test_every_function_is_called_once_a_round_and_twice_before() -> None:
    calls = {"a": 0, "b": 0}
    told = []

    def call(name: str) -> None:
        calls[name] += 1

    timings = interleaved({name: lambda name=name: call(name) for name in calls}, 7, told.append)
    assert calls == {"a": 9, "b": 9}
    assert told == [1] * 7
    assert timings.keys() == calls.keys()


def test_multiply_accumulates_are_those_of_the_products() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.product = nn.Linear(128 * 128 * 3, 10)
            self.convolution = nn.Conv2d(3, 6, 3, padding=1, groups=3)

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.product(image.float().flatten(1)), self.convolution(image.permute(0, 3, 1, 2).float())

    assert macs_of(Product()) == 128 * 128 * 3 * 10 + 128 * 128 * 6 * 9


def test_picture_codecs_need_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.zeros((1, 128, 128, 3), np.uint8)
    assert picture_codec("WebP", picture).row.picture_bytes > 0
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"edge-stscq\[bench\]"):
        picture_codec("AVIF", picture)
