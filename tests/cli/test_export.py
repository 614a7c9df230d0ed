"""`edge-stscq quantize` and `edge-stscq export` as a user runs them."""

import json
import shutil
from pathlib import Path

import cv2
import pytest
import typer
from typer.testing import CliRunner

from edge_stscq.cli.export import export
from edge_stscq.cli.quantize import quantize
from edge_stscq.errors import EdgeError
from targets.golden import candidates

app = typer.Typer()
app.command()(export)
app.command()(quantize)


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    shutil.copytree(tiny_model, folder)
    return folder


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_pictures_to_a_bundle(model: Path, tmp_path: Path) -> None:
    for index, picture in enumerate(candidates(8)):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture)
    code, text, errors = run("quantize", "--model", model, "--faces", tmp_path, "--json")
    assert code == 0
    assert json.loads(text)["faces"] == 7  # and one to judge by
    assert "at least 300" in errors
    code, text, _ = run("export", "--model", model, "--target", "ort", "-o", tmp_path / "bundles", "--json")
    assert code == 0
    report = json.loads(text)
    assert report["failed"] == {}
    assert [(row["target"], row["precision"]) for row in report["bundles"]] == [("onnx", "int8")]
    assert (tmp_path / "bundles" / "onnx-int8" / "manifest.json").is_file()
    with pytest.raises(EdgeError, match="--force"):
        run("export", "--model", model, "--target", "onnx", "-o", tmp_path / "bundles")
    with pytest.raises(EdgeError, match="executorch has no w8; choose --precision int8 or fp32"):
        run("export", "--model", model, "--target", "pte", "--precision", "w8", "-o", tmp_path / "bundles")
    code, text, _ = run("export", "--model", model, "--precision", "w8", "-o", tmp_path / "bundles", "--json")
    assert code == 0
    rows = json.loads(text)["bundles"]
    assert [row["target"] for row in rows] == ["onnx", "coreml"]
    assert [row["agreement"] for row in rows] == [1, 1]


def test_an_unknown_target_is_known_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="did you mean coreml"):
        run("export", "--model", tmp_path / "none", "--target", "coremll", "-o", tmp_path / "bundles")
    assert list(tmp_path.iterdir()) == []


def test_every_target_and_alias_is_in_the_help() -> None:
    _, text, _ = run("export", "--help")
    plain = " ".join(text.replace("│", " ").split())
    for word in ("onnx (ort, onnxruntime)", "executorch (pte, et, xnnpack)", "coreml (mlmodel,"):
        assert word in plain


def test_a_folder_without_pictures_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeError):
        run("quantize", "--model", model, "--faces", tmp_path)
