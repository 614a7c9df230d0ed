"""Opening a bundle: nothing in it may differ from what its manifest says."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from edge_stscq.bundle import open_bundle
from edge_stscq.bundle.manifest import CODEBOOKS, GOLDEN, MANIFEST, PROJECTION, TABLES, Manifest, sha256_files
from edge_stscq.errors import BundleError
from edge_stscq.stream import Tables
from edge_stscq.stream.learned import Learned, Weights
from edge_stscq.stream.learned.weights import FILE as LEARNED
from tests.support.bundles.altered_bundle import as_format, as_learned, reseal
from tests.support.bundles.sums_bundle import CONFIG, answer
from tests.support.models.learned_weights import draw_weights

FILES = ("encoder.onnx", CODEBOOKS, TABLES, PROJECTION, GOLDEN, MANIFEST)


def test_an_untouched_bundle_opens(sums_bundle: Path) -> None:
    bundle = open_bundle(str(sums_bundle))
    assert bundle.config == CONFIG
    assert bundle.books.shape == (3, 16, 32, 4)
    assert bundle.frames.header().hex().endswith(bundle.manifest.model_id)
    assert bundle.artefact.read_bytes() == bundle.read("encoder.onnx")
    golden = bundle.golden
    for image, group, tokens in zip(golden.images, golden.groups, golden.tokens, strict=True):
        assert answer(image) == (group, tokens.tolist())
    np.testing.assert_array_equal(golden.other_groups, golden.groups)
    np.testing.assert_array_equal(golden.other_tokens, golden.tokens)
    assert golden.payloads is not None
    assert [len(payloads) for payloads in golden.payloads] == [3] * 4
    assert bundle.projection.projection.shape == (128, 2 * 4)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_one_changed_byte_in_any_file_is_refused(sums_bundle: Path, name: str, place: float) -> None:
    data = bytearray((sums_bundle / name).read_bytes())
    data[round(place * (len(data) - 1))] ^= 1
    (sums_bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=name):
        open_bundle(sums_bundle)


def test_a_changed_byte_anywhere_in_the_manifest_is_refused(sums_bundle: Path) -> None:
    original = (sums_bundle / MANIFEST).read_bytes()
    for place in range(0, len(original), 31):
        other = b"2" if original[place : place + 1] == b"1" else b"1"
        (sums_bundle / MANIFEST).write_bytes(original[:place] + other + original[place + 1 :])
        with pytest.raises(BundleError):
            Manifest.load(sums_bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_cut_file_is_refused(sums_bundle: Path, name: str) -> None:
    data = (sums_bundle / name).read_bytes()
    (sums_bundle / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match=name):
        open_bundle(sums_bundle)
    (sums_bundle / name).unlink()
    with pytest.raises(BundleError, match=name):
        open_bundle(sums_bundle)


def test_an_unlisted_file_is_refused(sums_bundle: Path) -> None:
    (sums_bundle / "extra.bin").write_bytes(b"?")
    with pytest.raises(BundleError, match=r"extra.bin is not listed in manifest.json; copy or export"):
        open_bundle(sums_bundle)


def test_a_file_that_changes_after_opening_is_not_used(sums_bundle: Path) -> None:
    bundle = open_bundle(sums_bundle)
    for name in ("encoder.onnx", GOLDEN):
        (sums_bundle / name).write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"encoder.onnx was altered"):
        bundle.read("encoder.onnx")
    with pytest.raises(BundleError, match=r"golden.safetensors was altered"):
        _ = bundle.golden


def test_codebooks_of_another_model_are_refused(sums_bundle: Path) -> None:
    books = open_bundle(sums_bundle).books.copy()
    books[2, 15, 31, 3] += 1
    safetensors.numpy.save_file({"books": books}, sums_bundle / CODEBOOKS)
    reseal(sums_bundle)
    with pytest.raises(BundleError, match=r"model id is [0-9a-f]{16}, the manifest says"):
        open_bundle(sums_bundle)


def test_tables_of_another_model_are_refused(sums_bundle: Path) -> None:
    counts = np.ones((CONFIG.groups, CONFIG.tokens, CONFIG.entries), int)
    Tables.from_counts(counts, [1, 1, 1], CONFIG.layer_ends).save(sums_bundle / TABLES)
    reseal(sums_bundle)
    with pytest.raises(BundleError, match=r"model id is [0-9a-f]{16}, the manifest says"):
        open_bundle(sums_bundle)


@pytest.mark.parametrize("books", [np.zeros((3, 16, 32, 5), np.float32), np.full((3, 16, 32, 4), np.nan, np.float32)])
def test_codebooks_that_cannot_be_are_refused(sums_bundle: Path, books: np.ndarray) -> None:
    safetensors.numpy.save_file({"books": books}, sums_bundle / CODEBOOKS)
    reseal(sums_bundle)
    with pytest.raises(BundleError, match=r"no finite float32 books of shape \(3, 16, 32, 4\)"):
        open_bundle(sums_bundle)


def test_tables_of_another_configuration_are_refused(sums_bundle: Path) -> None:
    Tables.from_counts(np.zeros((3, 16, 32), int), np.zeros(3, int), (5, 10, 16)).save(sums_bundle / TABLES)
    reseal(sums_bundle)
    with pytest.raises(BundleError, match=r"tables.safetensors is of another configuration"):
        open_bundle(sums_bundle)


def test_a_learned_coder_is_opened_with_its_weights(sums_bundle: Path) -> None:
    bundle = open_bundle(as_learned(sums_bundle))
    weights = Weights.load(sums_bundle / LEARNED)
    assert isinstance(bundle.frames.entropy, Tables)
    assert bundle.frames.coder_id == Learned(weights, bundle.frames.entropy).coder_id
    (sums_bundle / LEARNED).unlink()
    content = bundle.manifest.model_dump() | {"files": sha256_files(sums_bundle)}
    with pytest.raises(ValueError, match=r"files does not list learned.safetensors"):
        Manifest.model_validate(content)


def test_weights_of_another_configuration_are_refused(sums_bundle: Path) -> None:
    as_learned(sums_bundle)
    other = Tables.from_counts(np.zeros((3, 16, 32), int), np.zeros(3, int), (5, 10, 16))
    draw_weights(other).save(sums_bundle / LEARNED)
    with pytest.raises(BundleError, match=r"learned.safetensors: the learned entropy model is for .*export the bundle"):
        open_bundle(reseal(sums_bundle))
    (sums_bundle / LEARNED).write_bytes(b"plain text, well listed")
    with pytest.raises(BundleError, match=r"learned.safetensors: not a file of a learned entropy model"):
        open_bundle(reseal(sums_bundle))


@pytest.mark.parametrize("name", [CODEBOOKS, TABLES])
def test_listed_files_that_are_no_tensors_are_refused(sums_bundle: Path, name: str) -> None:
    (sums_bundle / name).write_bytes(b"plain text, well listed")
    reseal(sums_bundle)
    with pytest.raises(BundleError, match=name):
        open_bundle(sums_bundle)


def test_golden_vectors_that_do_not_fit_are_refused(sums_bundle: Path) -> None:
    safetensors.numpy.save_file({"images": np.zeros((1, 64, 64, 3), np.uint8)}, sums_bundle / GOLDEN)
    bundle = open_bundle(reseal(sums_bundle))
    with pytest.raises(BundleError, match="no golden vectors of this model"):
        _ = bundle.golden


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("images", lambda old: np.zeros((), np.uint8), "no golden vectors"),
        ("payloads", lambda old: old[:-1], "the lengths are not"),
        ("payload_lengths", lambda old: np.full(old.shape, np.inf), "no golden vectors"),
        ("payload_lengths", lambda old: old[:, :-1].copy(), "no golden vectors"),
        (
            "payload_lengths",
            lambda old: old + np.array([[1, -1, 0]], np.int32) * 99,
            "the lengths are not those of the payloads",
        ),
    ],
)
def test_payloads_that_do_not_fit_are_refused(
    sums_bundle: Path, name: str, change: Callable[[NDArray[np.generic]], NDArray[np.generic]], message: str
) -> None:
    tensors = safetensors.numpy.load_file(sums_bundle / GOLDEN)
    safetensors.numpy.save_file(tensors | {name: change(tensors[name])}, sums_bundle / GOLDEN)
    bundle = open_bundle(reseal(sums_bundle))
    with pytest.raises(BundleError, match=f"golden.safetensors: {message}"):
        _ = bundle.golden


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("projection", np.zeros((128, 9), np.float32)),
        ("center", np.full(128, np.inf, np.float32)),
        ("mean", np.zeros(128, np.float64)),
        ("other", np.zeros(128, np.float32)),
    ],
)
def test_a_projection_that_does_not_fit_is_refused(sums_bundle: Path, name: str, array: NDArray[np.generic]) -> None:
    tensors = safetensors.numpy.load_file(sums_bundle / PROJECTION)
    safetensors.numpy.save_file(tensors | {name: array}, sums_bundle / PROJECTION)
    bundle = open_bundle(reseal(sums_bundle))
    with pytest.raises(BundleError, match=r"projection.safetensors: no finite float32 projection of shape \(128, 8\)"):
        _ = bundle.projection


@pytest.mark.parametrize("version", [1, 2])
def test_an_earlier_format_is_read_and_cannot_match(sums_bundle: Path, version: int) -> None:
    golden = open_bundle(sums_bundle).golden
    bundle = open_bundle(as_format(sums_bundle, version))
    assert bundle.config == CONFIG
    np.testing.assert_array_equal(bundle.golden.tokens, golden.tokens)
    assert bundle.golden.payloads is None
    with pytest.raises(BundleError, match="is of a format before 3 and cannot match; export it again for matching"):
        _ = bundle.projection
