"""The manifest: its schema, its text and the versions it admits."""

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from edge_stscq.bundle import open_bundle
from edge_stscq.bundle.manifest import (
    MANIFEST,
    CropSpec,
    Manifest,
    QuantizationSpec,
    RuntimeRange,
    differences,
    release,
    sha256_files,
)
from edge_stscq.errors import BundleError
from tests.support.bundles.altered_bundle import as_format


def test_text_is_the_same_every_time_and_loads_back(sums_bundle: Path) -> None:
    manifest = Manifest.load(sums_bundle)
    text = (sums_bundle / MANIFEST).read_text()
    manifest.save(sums_bundle)
    assert (sums_bundle / MANIFEST).read_text() == text == manifest.to_json()
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert not re.search(r"20\d\d-\d\d", text), "no dates"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("colour", "BGR", "colour: Extra inputs are not permitted"),
        ("format_version", 5, "format_version"),
        ("layers", [{"name": "basic", "end": 4}], "layers are not those of config"),
        ("target", "TF Lite", "target: String should match pattern"),
        ("precision", "int8", "an int8 or w8 bundle describes its quantisation"),
        ("artefact", "../encoder.onnx", "artefact: .*inside the bundle"),
        ("artefact", "/etc/passwd", "artefact: .*inside the bundle"),
        ("artefact", "encoder.pte", "does not list the artefact encoder.pte"),
        ("model_id", "0123", "model_id"),
        ("files", {}, "files does not list codebooks.safetensors, tables.safetensors, golden.safetensors, projection"),
    ],
)
def test_what_the_schema_does_not_know_is_refused(sums_bundle: Path, field: str, value: object, message: str) -> None:
    content = json.loads((sums_bundle / MANIFEST).read_text()) | {field: value}
    (sums_bundle / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(BundleError, match=message):
        Manifest.load(sums_bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"name": "\\ud800"}', "\xff"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=MANIFEST):
        Manifest.load(tmp_path)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(BundleError, match="is not a bundle: no manifest.json; make one with `edge-stscq export`"):
            Manifest.load(path)


def test_int8_needs_its_calibration(sums_bundle: Path) -> None:
    manifest = Manifest.load(sums_bundle)
    spec = QuantizationSpec(scheme="static int8", calibration_images=300, calibration_sha256="0" * 64)
    with pytest.raises(ValidationError, match="fp32 bundle has none"):
        Manifest.model_validate(manifest.model_dump() | {"quantisation": spec})
    int8 = Manifest.model_validate(manifest.model_dump() | {"quantisation": spec, "precision": "int8"})
    int8.save(sums_bundle)
    assert Manifest.load(sums_bundle) == int8


def test_crop_is_the_arcface_template_with_a_margin() -> None:
    crop = CropSpec()
    assert crop.size == crop.template_size + 2 * crop.margin
    with pytest.raises(ValidationError, match="colour"):
        CropSpec.model_validate({"colour": "BGR"})


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("1.31.1", (1, 31, 1)), ("2.0.0", (2,)), ("1.5.1+cpu", (1, 5, 1)), ("1.6.0rc1", (1, 6)), ("2.1.dev3", (2, 1))],
)
def test_only_release_numbers_count(version: str, numbers: tuple[int, ...]) -> None:
    assert release(version) == numbers


def test_range_holds_its_minimum_and_not_its_maximum() -> None:
    runtime = RuntimeRange(package="executorch", minimum="1.5", maximum_exclusive="1.7")
    admitted = [v for v in ("1.4.9", "1.5", "1.5.0", "1.6.12", "1.7", "1.10", "2") if runtime.admits(v)]
    assert admitted == ["1.5", "1.5.0", "1.6.12"]
    assert runtime.requirement == "executorch>=1.5,<1.7"
    with pytest.raises(ValidationError, match="below"):
        RuntimeRange(package="executorch", minimum="1.7.0", maximum_exclusive="1.7")


def test_differences_name_each_file_once() -> None:
    listed, found = {"a": "1", "b": "2", "c": "3"}, {"b": "2", "c": "4", "d": "5"}
    assert differences(listed, found) == [
        "a is missing",
        "d is not listed in manifest.json",
        "c was altered (sha256 differs)",
    ]


def test_hashes_cover_folders_and_refuse_links(tmp_path: Path) -> None:
    package = tmp_path / "encoder.mlpackage" / "Data"
    package.mkdir(parents=True)
    (package / "model").write_bytes(b"")
    (tmp_path / MANIFEST).write_bytes(b"not hashed")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256_files(tmp_path) == {"encoder.mlpackage/Data/model": empty}
    (tmp_path / "link").symlink_to(package)
    with pytest.raises(BundleError, match="link is neither a plain file nor a folder"):
        sha256_files(tmp_path)


def test_format_3_lists_the_layers(sums_bundle: Path) -> None:
    content = json.loads((sums_bundle / MANIFEST).read_text())
    assert (content["format_version"], content["config"]["format_version"]) == (3, 2)
    assert content["layers"] == [
        {"name": "basic", "end": 4}, {"name": "middle", "end": 10}, {"name": "enhanced", "end": 16}
    ]  # fmt: skip
    assert Manifest.load(sums_bundle).matches


@pytest.mark.parametrize("version", [1, 2])
def test_an_earlier_format_is_still_read(sums_bundle: Path, version: int) -> None:
    manifest = Manifest.load(sums_bundle)
    older = Manifest.load(as_format(sums_bundle, version))
    assert older == manifest.model_copy(update={"format_version": 2, "files": older.files})
    assert not older.matches
    assert open_bundle(sums_bundle).manifest == older
