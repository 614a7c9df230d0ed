"""`edge-stscq quantize` and `edge-stscq export` as a user runs them."""

import json
import shutil
from pathlib import Path

import cv2
import pytest
import torch
import typer
from torch import Tensor
from typer.testing import CliRunner

from edge_stscq.cli.export import export
from edge_stscq.cli.quantize import quantize
from edge_stscq.codec import store
from edge_stscq.codec.integer.encoder import IntegerEncoder
from edge_stscq.codec.integer.grid import GridConv
from edge_stscq.errors import EdgeError
from quantization import integer_graph
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


def test_pictures_to_bundles(model: Path, tmp_path: Path) -> None:
    """Of every target that has the precision; `tests/cli/test_integers.py` exports int8 for one."""
    for index, picture in enumerate(candidates(8)):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture)
    code, text, errors = run("quantize", "--model", model, "--faces", tmp_path, "--json")
    assert code == 0
    assert json.loads(text)["faces"] == 7  # and one to judge by
    assert "at least 300" in errors
    with pytest.raises(EdgeError, match="executorch has no w8; choose --precision int8 or fp32"):
        run("export", "--model", model, "--target", "pte", "--precision", "w8", "-o", tmp_path / "bundles")
    code, text, _ = run("export", "--model", model, "--precision", "w8", "-o", tmp_path / "bundles", "--json")
    assert code == 0
    report = json.loads(text)
    assert report["failed"] == {}
    rows = report["bundles"]
    assert [(row["target"], row["precision"]) for row in rows] == [("onnx", "w8"), ("coreml", "w8")]
    assert [row["agreement"] for row in rows] == [1, 1]
    assert (tmp_path / "bundles" / "onnx-w8" / "manifest.json").is_file()
    with pytest.raises(EdgeError, match="--force"):
        run("export", "--model", model, "--target", "onnx", "--precision", "w8", "-o", tmp_path / "bundles")


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


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("weight", torch.nan, "not a finite number"), ("bias", 1e9, "a sum may leave int32")],
)
def test_a_layer_without_integers_is_named_and_nothing_is_written(
    integer_model: Path, tmp_path: Path, name: str, value: float, message: str
) -> None:
    shutil.copytree(integer_model, tmp_path / "model")
    student = store.load_student(integer_model)
    assert isinstance(student, IntegerEncoder)
    layer = student.identity.layers[2]
    assert isinstance(layer, GridConv)
    getattr(layer, name).data.view(-1)[1] = value
    store.save_student(tmp_path / "model", student)
    with pytest.raises(EdgeError, match=rf"layer identity\.layers\.2: .*{message}"):
        run("export", "--model", tmp_path / "model", "--target", "onnx", "-o", tmp_path / "bundles")
    assert not (tmp_path / "bundles").exists()


class _Sigmoid(torch.nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.sigmoid(super().forward(x))
        return y


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("weight", r"layer identity\.1: a weight of 64 steps exceeds 7 bits"),
        ("step", r"layer identity\.1: the step of its output, .*, is no power of two"),
        ("operator", r"operator sigmoid behind identity\.1.* has no kernel that is the same on every runtime"),
    ],
)
def test_a_graph_that_is_not_exact_is_refused_by_its_layer_and_nothing_is_written(
    integer_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, message: str
) -> None:
    """As a lowering with a fault of its own would make it: the student itself cannot be so."""

    class Faulty(integer_graph.IntegerGraph):
        def __init__(self, program: integer_graph.IntegerProgram, signed: bool) -> None:
            super().__init__(program, signed)
            layer = self.identity[1]
            if fault == "weight":
                layer.weight = layer.weight.clone()
                layer.weight[0, 0, 0, 0] = 64
            elif fault == "step":
                layer.scale *= 1.5
            else:
                self.identity[1] = _Sigmoid(layer)

    monkeypatch.setattr(integer_graph, "IntegerGraph", Faulty)
    with pytest.raises(EdgeError, match=message):
        run("export", "--model", integer_model, "--target", "onnx", "-o", tmp_path / "bundles")
    assert not (tmp_path / "bundles").exists()
