"""Bundles appear whole and tried, or not at all."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_stscq.bundle import open_bundle
from edge_stscq.bundle.selftest import selftest
from edge_stscq.codec.matching import Matcher as TorchMatcher
from edge_stscq.device import Matcher, load_encoder
from edge_stscq.errors import EdgeError, MissingExtraError
from edge_stscq.stream.learned import Learned
from targets import TARGETS, find
from targets.base import Target
from targets.captured import CapturedModel, capture_model
from targets.onnx import OnnxTarget
from targets.subprocess_check import load_encoder_or_reference
from targets.writer import write_bundle
from tests.support.models.learned_weights import draw_weights

pytestmark = pytest.mark.slow

ONNX, EXECUTORCH, COREML = TARGETS


@pytest.fixture(scope="module")
def bundle(bundles: dict[str, Path]) -> Path:
    return bundles["onnx"]


def lowering(lower: Callable[[object, Path], None]) -> Target:
    """The ONNX target with another way to lower."""

    class Other(OnnxTarget):
        def lower(self, program: object, path: Path) -> None:
            lower(program, path)

    return Other(**vars(ONNX))


def copying(bundle: Path) -> Target:
    """The ONNX target with an artefact that was lowered before, for what is written beside it."""
    return lowering(lambda program, path: path.write_bytes((bundle / "encoder.onnx").read_bytes()))


def test_names_aliases_and_case() -> None:
    assert find("onnx") == find("ORT") == (ONNX,)
    assert find("pte") == (EXECUTORCH,)
    assert find("ios") == (COREML,)
    assert find("all") == TARGETS


@pytest.mark.parametrize(("typo", "meant"), [("onx", "onnx"), ("executorh", "executorch"), ("core-ml", "coreml")])
def test_a_typo_is_answered_with_what_was_meant(typo: str, meant: str) -> None:
    with pytest.raises(EdgeError, match=f"did you mean {meant}.*onnx, executorch, coreml, all"):
        find(typo)


def test_a_missing_package_is_answered_with_the_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'edge-stscq\[coreml\]'"):
        replace(COREML, packages=("a_package_nobody_has",)).check_installed()


def test_int8_bundle_says_what_it_is_and_passes_its_selftest(bundle: Path, source: CapturedModel) -> None:
    opened = open_bundle(bundle)
    manifest = opened.manifest
    assert (manifest.target, manifest.precision, manifest.artefact) == ("onnx", "int8", "encoder.onnx")
    assert manifest.quantisation is not None
    assert manifest.quantisation.calibration_images == 8
    assert "kept in float32: identity.features.0, identity.features.26" in manifest.quantisation.scheme
    assert {"torch", "onnx", "torchao", "edge-stscq"} <= manifest.tool_versions.keys()
    assert manifest.files.keys() == {
        "encoder.onnx",
        "codebooks.safetensors",
        "tables.safetensors",
        "projection.safetensors",
        "golden.safetensors",
    }
    np.testing.assert_array_equal(opened.golden.images, source.images)
    result = selftest(opened, load_encoder(opened))
    assert result.passed
    assert result.payloads_equal == result.payloads == 3 * len(source.images)


def test_a_bundle_matches_as_its_model_does(bundle: Path, calibrated: Path) -> None:
    opened = open_bundle(bundle)
    golden, expected = opened.golden, TorchMatcher.load(calibrated)
    group, tokens = torch.from_numpy(golden.groups), torch.from_numpy(golden.tokens)
    for layers in (1, 2, 3):
        found = Matcher.of(opened).embed([faces[-1] for faces in golden.faces(opened.config.layer_ends)], layers)
        np.testing.assert_allclose(found, expected(group, tokens, layers).numpy(), atol=1e-5)


@pytest.mark.parametrize("name", [target.name for target in TARGETS])
def test_every_target_answers_as_at_export(bundles: dict[str, Path], source: CapturedModel, name: str) -> None:
    """A graph with layers in int8, layers in float32 and what lies between them."""
    opened = open_bundle(bundles[name])
    assert (opened.golden.tokens == source.expected.tokens).mean() > 0.97
    assert selftest(opened, load_encoder_or_reference(opened)).passed


def test_the_same_model_gives_the_same_bytes(source: CapturedModel, bundle: Path, tmp_path: Path) -> None:
    """Of every file; the other targets lower the same graph, and `tests/lock` knows their bytes."""
    again = write_bundle(source, ONNX, tmp_path / "again").folder
    assert open_bundle(again).manifest == open_bundle(bundle).manifest


def test_a_bundle_names_its_coder_and_writes_with_it(source: CapturedModel, bundle: Path, tmp_path: Path) -> None:
    written = write_bundle(source, copying(bundle), tmp_path / "new", coder="packed").folder
    static, packed = open_bundle(bundle), open_bundle(written)
    assert (static.manifest.format_version, packed.manifest.format_version) == (3, 4)
    assert '"coder"' not in static.manifest.to_json()
    assert packed.frames.model_id == static.frames.model_id
    assert packed.frames.coder_id != static.frames.coder_id
    assert selftest(packed, load_encoder(packed)).passed


def test_a_bundle_of_the_learned_coder_carries_its_weights(source: CapturedModel, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="the model has no learned coder"):
        write_bundle(source, ONNX, tmp_path / "new", coder="learned")
    assert not list(tmp_path.iterdir())
    learned = Learned(draw_weights(source.tables), source.tables)
    source = replace(source, learned=learned)
    opened = open_bundle(write_bundle(source, copying(bundle), tmp_path / "new", coder="learned").folder)
    assert (opened.manifest.format_version, opened.manifest.coder) == (4, "learned")
    assert opened.frames.coder_id == learned.coder_id
    assert selftest(opened, load_encoder(opened)).passed


def test_a_bundle_is_replaced_only_when_asked(source: CapturedModel, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="--force"):
        write_bundle(source, ONNX, bundle)
    (tmp_path / "notes").mkdir()
    with pytest.raises(EdgeError, match="is not a bundle"):
        write_bundle(source, ONNX, tmp_path / "notes", force=True)


def test_write_bundle_keeps_the_earlier_one_if_it_does_not_run(
    source: CapturedModel, bundle: Path, tmp_path: Path
) -> None:
    """Write bundle of an artifact that does not run leaves the earlier one."""
    shutil.copytree(bundle, tmp_path / "onnx-int8")

    def garbage(program: object, path: Path) -> None:
        path.write_bytes(b"not an onnx file")

    with pytest.raises(EdgeError, match="does not run"):
        write_bundle(source, lowering(garbage), tmp_path / "onnx-int8", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["onnx-int8"]
    opened = open_bundle(tmp_path / "onnx-int8")
    assert selftest(opened, load_encoder(opened)).passed


def test_write_bundle_leaves_none_if_it_answers_differently(
    source: CapturedModel, bundle: Path, tmp_path: Path
) -> None:
    """Write bundle of an artifact that answers differently leaves none."""
    other = replace(source, expected=replace(source.expected, tokens=(source.expected.tokens + 1) % 16))
    with pytest.raises(EdgeError, match="of its graph's golden tokens"):
        write_bundle(other, copying(bundle), tmp_path / "onnx-int8")
    assert list(tmp_path.iterdir()) == []


def test_int8_of_an_uncalibrated_model_names_the_command(tiny_model: Path) -> None:
    """Int8 of a model that was not calibrated names the command."""
    with pytest.raises(EdgeError, match="edge-stscq quantize"):
        capture_model(tiny_model, "int8")
