"""The index that is in the package, and the module that writes it."""

import shutil
from pathlib import Path

import pytest

from edge_stscq._released import BUNDLE, MODEL
from edge_stscq.bundle import open_bundle
from edge_stscq.errors import EdgeError
from edge_stscq.hub import load_index
from edge_stscq.hub.index import Index, describe
from edge_stscq.hub.publish import publish
from edge_stscq.hub.transfer import pull


def test_index_describes_the_released_model(model_dir: Path) -> None:
    """After a change of the released model: make index."""
    listed = load_index().find(MODEL)
    assert listed == describe(MODEL, model_dir)
    listed.check(model_dir)


def test_index_has_the_bundle_that_a_camera_starts_with() -> None:
    files = load_index().find(BUNDLE).files
    assert {"manifest.json", "encoder.onnx", "codebooks.safetensors", "tables.safetensors"} <= files.keys()


def test_index_names_no_host() -> None:
    text = load_index().model_dump_json()
    assert "://" not in text
    assert "www." not in text


def test_what_is_published_can_be_pulled(tmp_path: Path, sums_bundle: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    config = open_bundle(sums_bundle).config
    config.save(model / "config.json")
    bundles = tmp_path / "bundles"
    shutil.copytree(sums_bundle, bundles / "onnx-fp32")
    made = publish(model, bundles, tmp_path / "place", tmp_path / "index.json")
    assert Index.model_validate_json((tmp_path / "index.json").read_bytes()) == made
    assert list(made.releases) == [config.name, f"{config.name}:onnx-fp32"]
    for one in made.releases:
        pull(one, str(tmp_path / "place"), cache=tmp_path / "cache", index=made)


def test_other_models_stay_in_the_index_and_stale_bundles_leave_it(tmp_path: Path, sums_bundle: Path) -> None:
    config, index = open_bundle(sums_bundle).config, tmp_path / "index.json"
    bundles = tmp_path / "bundles"
    shutil.copytree(sums_bundle, bundles / "onnx-fp32")
    shutil.copytree(sums_bundle, bundles / "onnx-old")
    for name in ("older", config.name):
        (tmp_path / name).mkdir()
        config.model_copy(update={"name": name}).save(tmp_path / name / "config.json")
    older = publish(tmp_path / "older", tmp_path / "none", index=index)
    publish(tmp_path / config.name, bundles, index=index)
    shutil.rmtree(bundles / "onnx-old")
    made = publish(tmp_path / config.name, bundles, index=index)
    assert list(made.releases) == [config.name, f"{config.name}:onnx-fp32", "older"]
    assert made.find("older") == older.find("older")


def test_a_folder_is_held_against_its_release(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    release = describe("tiny", tmp_path)
    release.check(tmp_path)
    (tmp_path / "b").write_bytes(b"")
    with pytest.raises(EdgeError, match="b is not of this release"):
        release.check(tmp_path)
    (tmp_path / "b").unlink()
    (tmp_path / "a").write_bytes(b"2")
    with pytest.raises(EdgeError, match="a was altered"):
        release.check(tmp_path)
    (tmp_path / "a").unlink()
    with pytest.raises(EdgeError, match="a is missing"):
        release.check(tmp_path)
