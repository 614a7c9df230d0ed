"""`edge-stscq thresholds` as a user runs it, and the bundle that carries what it measured."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from edge_stscq.bundle import open_bundle
from edge_stscq.bundle.match_rule import MatchRule
from edge_stscq.cli.thresholds import thresholds
from edge_stscq.config.template_thresholds import FILE, TemplateThresholds
from edge_stscq.errors import BundleError, EdgeError

app = typer.Typer()
app.command()(thresholds)
COUNT = 450


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name flat crops of as many people as it takes."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "crops").mkdir()
    lines = ["name,identity,side"]
    for number in range(COUNT):
        color = np.random.default_rng(number).integers(0, 256, 3)
        crop = np.broadcast_to(color.astype(np.uint8), (128, 128, 3))
        cv2.imwrite(str(folder / "crops" / f"{number}.png"), crop)
        lines.append(f"{number},person {number},{'left' if number % 2 else 'right'}")
    (folder / "people.csv").write_text("\n".join(lines))
    return ["--crops", str(folder / "crops"), "--identities", str(folder / "people.csv")]


@pytest.fixture(scope="module")
def measured(integer_model: Path, people: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A model that keeps its thresholds, and the JSON that was printed."""
    model = tmp_path_factory.mktemp("measured") / "model"
    shutil.copytree(integer_model, model)
    result = CliRunner().invoke(app, ["--model", str(model), *people, "--save", "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    return model, result.stdout


def test_json_is_what_the_model_keeps(measured: tuple[Path, str]) -> None:
    model, printed = measured
    rule = MatchRule.load(model)
    assert rule is not None
    assert json.loads(printed) == rule.thresholds.model_dump(mode="json")
    assert [row.name for row in rule.thresholds.layers] == ["basic", "middle"]
    assert rule.thresholds.measured.stranger_pairs == COUNT * (COUNT - 1) // 2
    assert [one.value for one in rule.thresholds.layers[0].labels] == ["left", "right"]


def test_table_names_layers_labels_and_what_is_not_claimed(integer_model: Path, people: list[str]) -> None:
    result = CliRunner().invoke(app, ["--model", str(integer_model), *people], catch_exceptions=False)
    for word in ("basic", "1 in 1,000", "left", "101,025 pairs of strangers", "claimed of no label"):
        assert word in " ".join(result.stdout.split())
    assert MatchRule.load(integer_model) is None  # without --save


def test_who_is_on_the_crops_must_be_said(integer_model: Path, people: list[str]) -> None:
    with pytest.raises(EdgeError, match="give --identities, or LFW's --pairs"):
        CliRunner().invoke(app, ["--model", str(integer_model), *people[:2]], catch_exceptions=False)


def test_bundle_carries_the_rule_and_refuses_another(measured: tuple[Path, str], tmp_path: Path) -> None:
    from targets import find
    from targets.captured import capture_model
    from targets.writer import write_bundle

    model, _ = measured
    (onnx,) = find("onnx")
    write_bundle(capture_model(model, "fp32"), onnx, tmp_path / "bundle")
    bundle, kept = open_bundle(tmp_path / "bundle"), MatchRule.load(model)
    assert kept is not None
    assert bundle.rule is not None
    assert bundle.rule.thresholds == kept.thresholds
    (tmp_path / "bundle" / "thresholds.json").write_bytes(kept.thresholds.to_json().replace(b'"basic"', b'"other"'))
    with pytest.raises(BundleError, match=r"thresholds.json was altered"):
        open_bundle(tmp_path / "bundle")


def test_thresholds_of_templates_are_by_scheme(tiny_model: Path, people: list[str], tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    options = ["--model", str(tmp_path / "model"), *people, "--templates"]
    result = CliRunner().invoke(app, [*options, "--save", "--json"], catch_exceptions=False)
    kept = TemplateThresholds.load(tmp_path / "model" / FILE)
    assert json.loads(result.stdout) == kept.model_dump(mode="json")
    assert [each.scheme for each in kept.schemes] == ["slerpface", "rotated", "polyprotect"]
    assert kept.measured.stranger_pairs == COUNT * (COUNT - 1), "each pair under either key"
    told = CliRunner().invoke(app, options, catch_exceptions=False).stdout
    assert all(word in told for word in ("rotated", "polyprotect", "1 in 10,000", "202,050 pairs of strangers"))
    with pytest.raises(EdgeError, match="templates are not held against a cohort"):
        CliRunner().invoke(app, [*options, "--cohort", "crops"], catch_exceptions=False)
