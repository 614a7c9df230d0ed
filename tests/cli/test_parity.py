"""`edge-stscq parity` as a user runs it, on a bundle of a model whose tokens differ from picture to picture."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from edge_stscq.cli.parity import parity
from edge_stscq.codec import store
from edge_stscq.device.manifest import Manifest, QuantisationSpec, sha256_files
from edge_stscq.errors import EdgeError
from quantization import calibrate
from targets import find
from targets.bundle import load_source, write_bundle

app = typer.Typer()
app.command()(parity)


def checkers(count: int, seed: int = 0) -> np.ndarray:
    """Pictures of coloured squares, uint8 [N,128,128,3]."""
    generator = np.random.default_rng(seed)
    squares = [(2, 4, 8, 16)[i % 4] for i in range(count)]
    small = [generator.integers(0, 256, (s, s, 3), np.uint8) for s in squares]
    return np.stack([image.repeat(128 // len(image), 0).repeat(128 // len(image), 1) for image in small])


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with batch norms that have seen pictures and codebooks drawn from its own token vectors.

    Random weights alone let the signal die out: every picture would get the same tokens, and parity could not fail.
    """
    folder = tmp_path_factory.mktemp("lively") / "model"
    shutil.copytree(tiny_model, folder)
    student, images = store.load_student(folder), torch.from_numpy(checkers(32))
    for module in student.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        student.train()(images)
    z = student.eval().analyse(images).z[:16].transpose(0, 1)  # [T, K, D]
    student.codebooks.books.copy_(torch.stack([z, 0.9 * z]))
    store.save_student(folder, student)
    store.save_weights(folder / "codebooks.safetensors", {"books": student.codebooks.books})
    calibrate(student, checkers(8)).save(folder)
    return folder


@pytest.fixture(scope="module")
def bundle(model: Path) -> Path:
    folder = model.parent / "onnx-fp32"
    write_bundle(load_source(model, "fp32"), find("onnx")[0], folder)
    return folder


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    for i, image in enumerate(checkers(12, seed=5)):
        cv2.imwrite(str(folder / f"{i:02d}.png"), image[..., ::-1])
    return folder


@pytest.fixture(autouse=True)
def _no_recognisers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_STSCQ_DATA", raising=False)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return result.exit_code, result.stdout


def claiming_int8(bundle: Path, folder: Path) -> Path:
    """A copy of an fp32 bundle whose manifest says int8."""
    shutil.copytree(bundle, folder)
    manifest = Manifest.load(bundle)
    spec = QuantisationSpec(scheme="none at all", calibration_images=8, calibration_sha256="0" * 64)
    manifest.model_copy(update={"precision": "int8", "quantisation": spec, "files": sha256_files(folder)}).save(folder)
    return folder


def test_fp32_artefact_is_the_student(bundle: Path, model: Path, faces: Path) -> None:
    code, text = run(bundle, "--model", model, "--faces", faces, "--json")
    report = json.loads(text)
    assert code == 0
    assert report["passed"]
    assert (report["precision"], report["quantisation"]) == ("fp32", None)
    assert report["executor"].startswith("onnxruntime")
    assert report["device"]["faces"] == 12
    assert report["device"]["tokens"] >= 0.99
    assert report["pictures"]["embedded_by"] == "the student's own embedding"


def test_an_artefact_that_is_not_its_graph_is_told_from_a_bad_quantisation(
    bundle: Path, model: Path, faces: Path, tmp_path: Path
) -> None:
    """A float32 artefact that claims to be int8: it equals the student, so it can't equal the coarse int8 graph."""
    code, text = run(claiming_int8(bundle, tmp_path / "onnx-int8"), "--model", model, "--faces", faces, "--json")
    report = json.loads(text)
    assert report["device"]["tokens"] >= 0.99
    assert report["runtime"]["tokens"] == pytest.approx(report["quantisation"]["tokens"], abs=0.02)
    assert report["runtime"]["tokens"] < 0.99
    assert code == 1
    assert [line.split(" is ")[0] for line in report["failures"]] == ["token agreement of artefact and its graph"]


def test_several_bundles_are_judged_in_one_run(bundle: Path, model: Path, faces: Path, tmp_path: Path) -> None:
    """A report a line; one that fails makes the command fail."""
    other = claiming_int8(bundle, tmp_path / "onnx-int8")
    code, text = run(bundle, other, "--model", model, "--faces", faces, "--json")
    first, second = map(json.loads, text.splitlines())
    assert code == 1
    assert (first["precision"], first["passed"]) == ("fp32", True)
    assert (second["precision"], second["passed"]) == ("int8", False)


def test_golden_pictures_stand_in_for_faces(bundle: Path, model: Path) -> None:
    code, text = run(bundle, "--model", model)
    assert code == 0
    assert "golden pictures" in text
    assert "passed" in text


def test_another_student_fails_and_says_why(bundle: Path, model: Path, faces: Path, tmp_path: Path) -> None:
    """Same codebooks, other weights: the model id agrees, the tokens don't, and the exit code is 1."""
    changed = tmp_path / "model"
    shutil.copytree(model, changed)
    student = store.load_student(changed)
    student.head.offset.add_(0.5)
    store.save_student(changed, student)
    code, text = run(bundle, "--model", changed, "--faces", faces)
    assert code == 1
    assert "failed: token agreement" in text


def test_thresholds_and_count_are_options(bundle: Path, model: Path, faces: Path) -> None:
    code, text = run(bundle, "--model", model, "--faces", faces, "--count", "3", "--identity", "0.5", "--json")
    report = json.loads(text)
    assert code == 0
    assert report["device"]["faces"] == 3
    assert report["thresholds"]["identity"] == 0.5


def test_model_of_another_bundle_is_refused(bundle: Path, tiny_model: Path) -> None:
    with pytest.raises(EdgeError, match="--model"):
        run(bundle, "--model", tiny_model)


def test_altered_bundle_is_refused(bundle: Path, model: Path, tmp_path: Path) -> None:
    altered = tmp_path / "bundle"
    shutil.copytree(bundle, altered)
    data = bytearray((altered / "encoder.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (altered / "encoder.onnx").write_bytes(data)
    with pytest.raises(EdgeError, match="encoder.onnx was altered"):
        run(altered, "--model", model)


def test_recognisers_that_are_not_there_are_named(bundle: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="--recognisers"):
        run(bundle, "--model", model, "--recognisers", tmp_path / "none")
