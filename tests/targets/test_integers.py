import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edge_stscq.bundle import open_bundle, selftest
from edge_stscq.bundle.manifest import GOLDEN, Manifest, sha256_files
from edge_stscq.codec.integer.encoder import IntegerEncoder
from edge_stscq.codec.store import load_student
from edge_stscq.device import load_encoder
from edge_stscq.errors import BundleError, EdgeError
from quantization.integer_graph import integer_program
from quantization.reference import run_program
from targets import TARGETS, find, golden
from targets.captured import CapturedModel, capture_model
from targets.golden import candidates
from targets.subprocess_check import load_encoder_or_reference
from targets.writer import write_bundle

pytestmark = pytest.mark.slow

PICTURES = np.stack(candidates(20))


@pytest.fixture(scope="module")
def source(integer_model: Path) -> CapturedModel:
    return capture_model(integer_model, "int8")


@pytest.fixture(scope="module")
def bundles(integer_bundles: dict[str, Path]) -> dict[str, Path]:
    return integer_bundles


@pytest.mark.parametrize("target", [target.name for target in TARGETS])
def test_artifacts_give_exactly_what_whole_numbers_give(
    target: str, bundles: dict[str, Path], integer_model: Path
) -> None:
    student = load_student(integer_model)
    assert isinstance(student, IntegerEncoder)
    groups, tokens = run_program(integer_program(student), PICTURES)
    bundle = open_bundle(bundles[target])
    encoder = load_encoder_or_reference(bundle)
    for picture, group, expected in zip(PICTURES, groups, tokens, strict=True):
        found, given = encoder.run(picture)
        assert found == group
        np.testing.assert_array_equal(given, expected)
    result = selftest(bundle, encoder)
    assert result.passed
    assert result.ties == 0
    assert set(bundle.golden.groups.tolist()) == {0, 1}
    np.testing.assert_array_equal(bundle.golden.tokens, bundle.golden.other_tokens)


def test_bundles_say_that_they_are_exact(bundles: dict[str, Path]) -> None:
    manifest = Manifest.load(bundles["onnx"])
    assert manifest.exact
    assert manifest.quantisation is not None
    assert manifest.quantisation.calibration_images is None
    assert "within 7 bits" in manifest.quantisation.scheme
    size = (bundles["onnx"] / manifest.artefact).stat().st_size
    assert manifest.codebook_bytes == 2 * (7 + 2) * 16 * (4 + 4)
    assert manifest.codebook_bytes < size


def test_w8_of_a_student_made_for_integers_is_refused(integer_model: Path) -> None:
    with pytest.raises(EdgeError, match="has no w8; choose --precision int8 or fp32"):
        capture_model(integer_model, "w8")


@pytest.fixture(scope="module")
def float_source(integer_model: Path) -> CapturedModel:
    return capture_model(integer_model, "fp32")


@pytest.fixture(scope="module")
def float_bundle(float_source: CapturedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(float_source, find("onnx")[0], tmp_path_factory.mktemp("float") / "onnx").folder


def test_fp32_is_the_float_twin(integer_model: Path, float_source: CapturedModel, float_bundle: Path) -> None:
    source, bundle = float_source, open_bundle(float_bundle)
    assert not source.exact
    assert not bundle.manifest.exact
    assert selftest(bundle, load_encoder(bundle)).passed
    twin = load_student(integer_model)
    assert isinstance(twin, IntegerEncoder)
    group, tokens = twin.quantize(False)(torch.from_numpy(source.images))
    assert np.mean(tokens.numpy() == bundle.golden.tokens) > 0.98
    assert np.array_equal(group.numpy(), bundle.golden.groups)


def _altered(bundle: Path, place: Path) -> Path:
    """The bundle with one golden token changed and hashes that fit."""
    from safetensors.numpy import load_file, save_file

    folder = Path(shutil.copytree(bundle, place))
    vectors = load_file(folder / GOLDEN)
    for name in ("tokens", "other_tokens"):
        vectors[name][0, 0] ^= 1
    save_file(vectors, folder / GOLDEN)
    Manifest.load(folder).model_copy(update={"files": sha256_files(folder)}).save(folder)
    return folder


def test_a_device_that_gives_other_tokens_does_not_encode(bundles: dict[str, Path], tmp_path: Path) -> None:
    folder = _altered(bundles["onnx"], tmp_path / "altered")
    with pytest.raises(BundleError, match="gives other tokens on this machine than at export; nothing was encoded"):
        load_encoder(folder)
    bundle = open_bundle(folder)
    result = selftest(bundle, load_encoder(bundle, verify=False))
    assert result.first is not None
    assert result.first.index == (0, 0)


@pytest.mark.parametrize(
    ("node", "value", "message"),
    [
        ("DequantizeLinear", 0.3, "a step of its (weight|input) is no power of two"),
        ("QuantizeLinear", 0.3, "a step of its output is no power of two|a step of its input is no power of two"),
    ],
)
def test_check_exact_names_the_layer_of_an_onnx_file(
    bundles: dict[str, Path], tmp_path: Path, node: str, value: float, message: str
) -> None:
    model = onnx.load(bundles["onnx"] / "encoder.onnx")
    last = [each for each in model.graph.node if each.op_type == node and "conv" in "".join((*each.input, *each.output))
            or (each.op_type == node and each.input[0].endswith(".weight"))][-1]  # fmt: skip
    steps = next(tensor for tensor in model.graph.initializer if tensor.name == last.input[1])
    steps.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(steps) * np.float32(value), steps.name))
    path = tmp_path / "encoder.onnx"
    onnx.save(model, path)
    with pytest.raises(EdgeError, match=f"layer .*: {message}"):
        find("onnx")[0].check_exact(path)


def test_check_exact_refuses_a_convolution_in_float(float_bundle: Path) -> None:
    target = find("onnx")[0]
    with pytest.raises(EdgeError, match="is not int8 in the"):
        target.check_exact(float_bundle / target.artefact)


def test_write_bundle_leaves_nothing_that_is_not_exact(source: CapturedModel, tmp_path: Path) -> None:
    """Write bundle leaves nothing of an artifact that is not exact."""
    wrong = source.expected.tokens.copy()
    wrong[0, 0] ^= 1
    spoiled = replace(source, expected=replace(source.expected, tokens=wrong))
    with pytest.raises(EdgeError, match="of its graph's golden tokens"):
        write_bundle(spoiled, find("onnx")[0], tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


def test_select_finds_groups_by_the_nearest_rule_within_a_bound(integer_model: Path) -> None:
    """Of many groups, some of which no picture reaches, those that are reached have one."""
    student = load_student(integer_model)

    def analyze(pictures: np.ndarray) -> golden.RoutingMargins:
        found = student.analyse(torch.from_numpy(pictures))
        logits = np.concatenate([found.group_logits.numpy(), np.full((len(pictures), 14), -1e9, np.float32)], axis=1)
        books = np.repeat(student.codebooks.books.numpy(), 8, axis=0)
        return golden.routing_margins(logits, found.group.numpy(), found.z.numpy(), books)

    chosen = golden.select(analyze, 16, most=64, unsure=0.0)
    groups = set(student(torch.from_numpy(chosen.images))[0].tolist())
    assert groups == {0, 1}
    assert not chosen.unsure.any()
