"""`edge-stscq parity` as a user runs it, on a bundle of a model whose tokens differ from picture to picture."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import onnx
import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from edge_stscq.bundle.manifest import Manifest, QuantizationSpec, sha256_files
from edge_stscq.cli.parity import parity
from edge_stscq.codec import store
from edge_stscq.errors import EdgeError
from quantization import calibrate
from targets import find
from targets.captured import capture_model
from targets.writer import write_bundle

ABLATION = Path(__file__).resolve().parents[2] / "recipes" / "ablation.toml"
NOTHING_ASKED = """
runtime_agreement = 0
token_agreement = 0
clear_agreement = 0
group_agreement = 0
identity = -1
accuracy_lost = 1
"""

app = typer.Typer()
app.command()(parity)


def checkers(count: int, seed: int = 0) -> np.ndarray:
    """Pictures of coloured squares, uint8 [N,128,128,3]."""
    generator = np.random.default_rng(seed)
    squares = [(2, 4, 8, 16)[i % 4] for i in range(count)]
    small = [generator.integers(0, 256, (s, s, 3), np.uint8) for s in squares]
    return np.stack([image.repeat(128 // len(image), 0).repeat(128 // len(image), 1) for image in small])


def _unit_variance(layer: nn.Conv2d | nn.Linear, _: object, output: torch.Tensor) -> torch.Tensor:
    """Scale a layer so that its answer to these pictures has unit variance (Mishkin and Matas 2016)."""
    scale = 1 / output.std()
    layer.weight.mul_(scale)
    layer.bias.mul_(scale)
    return output * scale


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with layers that have seen pictures and codebooks drawn from its own token vectors.

    Random weights alone let the signal die out: every picture would get the same tokens, and parity could not fail.
    """
    folder = tmp_path_factory.mktemp("lively") / "model"
    shutil.copytree(tiny_model, folder)
    student, images = store.load_student(folder), torch.from_numpy(checkers(32))
    hooks = [
        module.register_forward_hook(_unit_variance)
        for module in student.backbone.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        student(images)
    for hook in hooks:
        hook.remove()
    store.round_as_stored(student)
    z = student.analyse(images).z[:16].transpose(0, 1)  # [T, K, D]
    student.codebooks.books.copy_(torch.stack([z, 0.9 * z]))
    store.save_student(folder, student)
    store.save_weights(folder / "codebooks.safetensors", {"books": student.codebooks.books})
    calibrate(student, checkers(8)).save(folder)
    return folder


@pytest.fixture(scope="module")
def bundle(model: Path) -> Path:
    folder = model.parent / "onnx-fp32"
    write_bundle(capture_model(model, "fp32"), find("onnx")[0], folder)
    return folder


@pytest.fixture(scope="module")
def changed(model: Path) -> Path:
    """Another student: same codebooks and so the same model id, other tokens."""
    folder = model.parent / "changed"
    shutil.copytree(model, folder)
    student = store.load_student(folder)
    student.head.offset.add_(0.5)
    store.save_student(folder, student)
    return folder


@pytest.fixture(scope="module")
def other(bundle: Path) -> Path:
    """The bundle as an export of `changed` would differ from it: in one constant of the graph."""
    folder = Path(shutil.copytree(bundle, bundle.parent / "onnx-other"))
    graph = onnx.load(folder / "encoder.onnx")
    (offset,) = (tensor for tensor in graph.graph.initializer if tensor.name.endswith("head.offset"))
    offset.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(offset) + np.float32(0.5), offset.name))
    onnx.save(graph, folder / "encoder.onnx")
    Manifest.load(folder).model_copy(update={"files": sha256_files(folder)}).save(folder)
    return folder


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    for i, image in enumerate(checkers(12, seed=5)):
        cv2.imwrite(str(folder / f"{i:02d}.png"), image[..., ::-1])
    return folder


@pytest.fixture(autouse=True)
def _no_recognizers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_STSCQ_DATA", raising=False)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return result.exit_code, result.stdout


def failed(report: dict[str, Any]) -> list[str]:
    return [check["figure"] for check in report["checks"] if not check["passed"]]


def with_recipe(model: Path, folder: Path, tables: str) -> Path:
    """A copy of a model folder with a recipe that ends in `tables`."""
    shutil.copytree(model, folder)
    (folder / "recipe.toml").write_text(f"{ABLATION.read_text()}\n{tables}\n")
    return folder


class Run(NamedTuple):
    """One run with `--json` and `--html`."""

    code: int
    reports: list[dict[str, Any]]
    page: str


class Page(HTMLParser):
    """Tags and words of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags:
            self.words.setdefault(self.tags[-1][0], []).append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def title(self) -> str:
        return self.words["title"][0]

    @property
    def headings(self) -> list[str]:
        return self.words["h2"]

    @property
    def text(self) -> str:
        return " ".join(word for words in self.words.values() for word in words)


def claiming_int8(bundle: Path, folder: Path) -> Path:
    """A copy of an fp32 bundle whose manifest says int8."""
    shutil.copytree(bundle, folder)
    manifest = Manifest.load(bundle)
    spec = QuantizationSpec(scheme="none at all", calibration_images=8, calibration_sha256="0" * 64)
    manifest.model_copy(update={"precision": "int8", "quantisation": spec, "files": sha256_files(folder)}).save(folder)
    return folder


def test_fp32_artifact_is_the_student(bundle: Path, model: Path, faces: Path) -> None:
    code, text = run(bundle, "--model", model, "--faces", faces, "--json")
    report = json.loads(text)
    assert code == 0
    assert report["passed"]
    assert (report["precision"], report["quantisation"]) == ("fp32", None)
    assert report["executor"].startswith("onnxruntime")
    assert report["device"]["faces"] == 12
    assert report["device"]["tokens"] >= 0.99
    assert report["pictures"]["embedded_by"] == "the student's own embedding"


@pytest.fixture(scope="module")
def int8(bundle: Path, model: Path, faces: Path) -> Run:
    """A float32 artefact, and the same claiming to be int8, in one run."""
    claiming, page = claiming_int8(bundle, bundle.parent / "onnx-int8"), bundle.parent / "new" / "page.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("EDGE_STSCQ_DATA", raising=False)
        code, text = run(bundle, claiming, "--model", model, "--faces", faces, "--json", "--html", page)
    return Run(code, [json.loads(line) for line in text.splitlines()], page.read_text())


def test_parity_tells_a_wrong_artifact_from_bad_quantization(int8: Run) -> None:
    """The artefact equals the student, so it can't equal the coarse int8 graph."""
    report = int8.reports[1]
    assert report["device"]["tokens"] >= 0.99
    assert report["runtime"]["tokens"] == pytest.approx(report["quantisation"]["tokens"], abs=0.02)
    assert report["runtime"]["tokens"] < 0.99
    assert failed(report) == ["token agreement of artefact and its graph"]


def test_several_bundles_are_judged_in_one_run(int8: Run, bundle: Path) -> None:
    """A report a line and the matrix in the last; one that fails makes the command fail."""
    first, second, matrix = int8.reports
    assert int8.code == 1
    assert (first["precision"], first["passed"]) == ("fp32", True)
    assert (second["precision"], second["passed"]) == ("int8", False)
    assert matrix["bundles"] == [str(bundle), str(bundle.parent / "onnx-int8")]
    assert matrix["tokens"] == [[1, 1], [1, 1]]
    assert (matrix["checks"], matrix["passed"]) == ([], True)  # of different precision, so nothing is asked


def test_artifacts_that_disagree_with_each_other_fail(
    bundle: Path, other: Path, model: Path, faces: Path, pairs: list[object], tmp_path: Path
) -> None:
    """Each is near enough to the student for what is asked of it alone, but not to the other."""
    lax = with_recipe(model, tmp_path / "lax", f"[parity]\n{NOTHING_ASKED}")
    arguments = [bundle, other, "--model", lax, "--faces", faces, *pairs, "--html", tmp_path / "page.html"]
    code, text = run(*arguments, "--json")
    first, second, matrix = map(json.loads, text.splitlines())
    assert first["passed"]
    assert second["passed"]
    assert code == 1
    assert matrix["tokens"][0][1] == matrix["tokens"][1][0] < 0.999
    assert failed(matrix) == [f"token agreement of {bundle} and {other}"]
    page = Page((tmp_path / "page.html").read_text())
    pictures = page.named("img")
    assert len(pictures) == 10 * 4  # of the bundle that differs from the student
    assert all(image["alt"] and (image["src"] or "").startswith("data:image/png;base64,") for image in pictures)
    assert "Is it still the same person?" in page.headings


def test_options_override_the_thresholds_of_the_recipe(
    bundle: Path, changed: Path, faces: Path, tmp_path: Path
) -> None:
    """The recipe states the thresholds and options override them."""
    tables = "[parity]\ntoken_agreement = 0.999\n[parity.floor]\n" + NOTHING_ASKED
    arguments = [bundle, "--model", with_recipe(changed, tmp_path / "model", tables), "--faces", faces]

    def asked(*options: str) -> tuple[int, float]:
        code, text = run(*arguments, *options, "--json")
        checks = {check["figure"]: check["limit"] for check in json.loads(text)["checks"]}
        return code, checks["token agreement with full precision"]

    assert asked() == (1, 0.999)
    assert asked("--floor") == (0, 0)
    assert asked("--floor", "--token-agreement", "1") == (1, 1)
    _, text = run(*arguments, "--floor", "--identity", "0")
    assert re.search(r"thresholds: \[parity\.floor\] of \S+recipe\.toml, changed by options: identity$", text.strip())


def test_a_floor_must_be_stated(bundle: Path, model: Path, tmp_path: Path) -> None:
    for folder in (model, with_recipe(model, tmp_path / "model", "[parity]\nidentity = 0.9")):
        with pytest.raises(EdgeError, match=r"recipe.toml states no floor.*\[parity.floor\]"):
            run(bundle, "--model", folder, "--floor")


def test_a_threshold_that_does_not_exist_is_named(bundle: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match=r"recipe.toml: parity.identitty"):
        run(bundle, "--model", with_recipe(model, tmp_path / "model", "[parity]\nidentitty = 0.9"))


@pytest.fixture
def pairs(tmp_path: Path, faces: Path) -> list[object]:
    """Options naming two folds of two pairs, of the pictures in `faces`."""
    crops = tmp_path / "crops"
    crops.mkdir()
    for picture, name in zip(sorted(faces.iterdir()), "ABCDEFGH", strict=False):
        shutil.copy(picture, crops / f"{name}_0001.png")
        shutil.copy(picture, crops / f"{name}_0002.png")
    (tmp_path / "pairs.txt").write_text("2\t1\nA\t1\t2\nA\t1\tB\t1\nC\t1\t2\nC\t1\tD\t1\n")
    return ["--pairs", tmp_path / "pairs.txt", "--crops", crops]


def test_verification_accuracy_beside_full_precision(
    bundle: Path, model: Path, faces: Path, pairs: list[object]
) -> None:
    """The same picture is the same code, whoever codes it: nothing is lost."""
    code, text = run(bundle, "--model", model, "--faces", faces, *pairs, "--json")
    report = json.loads(text)
    assert code == 0
    rows = report["accuracy"]["rows"]
    assert [(row["layer"], row["compared"]) for row in rows] == [
        ("basic", "compressed domain"), ("middle", "compressed domain"), ("enhanced", "compressed domain"),
    ]  # fmt: skip
    assert {(row["device"]["pairs"], row["device"]["folds"], row["lost"]) for row in rows} == {(4, 2, 0)}
    assert report["checks"][-1]["figure"].startswith("accuracy lost (")
    _, text = run(bundle, "--model", model, "--faces", faces, *pairs)
    assert "verification accuracy in %" in text


def test_pairs_need_crops_and_crops_need_pairs(bundle: Path, model: Path, pairs: list[object]) -> None:
    with pytest.raises(EdgeError, match="--crops"):
        run(bundle, "--model", model, *pairs[:2])
    with pytest.raises(EdgeError, match="--pairs"):
        run(bundle, "--model", model, *pairs[2:])


def test_page_is_self_contained_and_accessible(int8: Run) -> None:
    page = Page(int8.page)
    assert re.fullmatch(r"Parity of tiny [0-9a-f]{16}, \d{4}-\d\d-\d\d: onnx fp32, onnx int8", page.title)
    assert not re.search(r"https?:|<script|<link|url\(", int8.page)
    plots = page.named("svg")
    assert len(plots) == 2 + 2  # no flips, so no distances
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
    assert "artefact vs quantised graph" in plots[3]["aria-label"]
    assert {heading["scope"] for heading in page.named("th")} == {"col", "row"}
    assert page.text.count("✗ failed") == 2  # the whole and the bundle that claims to be int8
    assert page.text.count("✓ passed") == 1


def test_parity_refuses_an_unwritable_page_before_the_work(bundle: Path, model: Path, tmp_path: Path) -> None:
    """A page that cannot be written is refused before the work."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgeError, match="--html"):
        run(bundle, "--model", model, "--html", tmp_path / "file" / "page.html")


def test_golden_pictures_stand_in_for_faces(bundle: Path, model: Path) -> None:
    code, text = run(bundle, "--model", model)
    assert code == 0
    assert "golden pictures" in text
    assert "passed" in text


def test_another_student_fails_and_says_why(bundle: Path, changed: Path, faces: Path) -> None:
    """Same codebooks, other weights: the model id agrees, the tokens don't, and the exit code is 1."""
    code, text = run(bundle, "--model", changed, "--faces", faces)
    assert code == 1
    assert "failed: token agreement" in text


def test_thresholds_and_count_are_options(bundle: Path, model: Path, faces: Path) -> None:
    code, text = run(bundle, "--model", model, "--faces", faces, "--count", "3", "--identity", "0.5", "--json")
    report = json.loads(text)
    assert code == 0
    assert report["device"]["faces"] == 3
    assert [check["limit"] for check in report["checks"] if check["figure"].startswith("identity")] == [0.5]


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


def test_recognizers_that_are_not_there_are_named(bundle: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="--recognisers"):
        run(bundle, "--model", model, "--recognisers", tmp_path / "none")
