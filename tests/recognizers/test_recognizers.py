"""Recognizers: loading, and what they say of real faces."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edge_stscq.data.crops import load_faces
from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.verification.pairs import read_pairs
from edge_stscq.recognizers import (
    HELD_OUT,
    RECOGNIZERS,
    load_recognizer,
    load_recognizers,
    recognizer_folder,
)


@pytest.mark.parametrize("content", [None, b"", b"no tensors"])
def test_missing_and_damaged_files(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "sface.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EdgeError, match="sface.safetensors"):
        load_recognizer(path)


@pytest.mark.parametrize(
    "metadata", [None, {"kind": "other", "layout": "[]"}, {"kind": "sface", "layout": '[["odd"]]'}]
)
def test_other_networks_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "net.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata)
    with pytest.raises(EdgeError, match="not a recogniser"):
        load_recognizer(path)


def test_folder_comes_from_the_option_then_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_STSCQ_DATA", raising=False)
    assert recognizer_folder() is None
    monkeypatch.setenv("EDGE_STSCQ_DATA", str(tmp_path))
    with pytest.raises(EdgeError, match="EDGE_STSCQ_DATA"):
        recognizer_folder()
    (tmp_path / "recognisers").mkdir()
    assert recognizer_folder() == tmp_path / "recognisers"
    assert recognizer_folder(tmp_path) == tmp_path
    with pytest.raises(EdgeError, match="unknown recogniser 'arc'"):
        load_recognizers(tmp_path, ["arc"])


@pytest.mark.parametrize("name", RECOGNIZERS)
def test_recognizers_know_people(shared_data: Path, name: str) -> None:
    """Sixty LFW people seen twice are told apart; a pipeline with wrong colours, scale or alignment is not."""
    net = load_recognizers(shared_data / "recognisers", [name])[name]
    pairs = read_pairs(shared_data / "lfw" / "pairs.txt")
    take = np.flatnonzero(pairs.same)[::100]
    first, second = ([names[i] for i in take] for names in (pairs.first, pairs.second))
    faces = load_faces(shared_data / "lfw" / "lfw-crops.tar", names={*first, *second})
    where = {name: i for i, name in enumerate(faces.names)}
    units = net.embed(faces.images)
    assert units.shape == (len(faces), 192 if name == HELD_OUT else 128)
    assert np.allclose(np.linalg.norm(units, axis=1), 1, atol=1e-5)
    scores = units[[where[n] for n in first]] @ units[[where[n] for n in second]].T
    same, others = np.diag(scores), scores[~np.eye(len(take), dtype=bool)]
    assert np.mean(same > 0.35) > 0.9
    assert np.mean(others > 0.35) < 0.02


@pytest.mark.parametrize("name", RECOGNIZERS)
def test_embeddings_are_those_of_the_weights_own_loader(shared_data: Path, name: str) -> None:
    """Same embeddings as the loader that came with the weights."""
    folder = shared_data / "recognisers"
    spec = importlib.util.spec_from_file_location("recognisers", folder / "recognisers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    crops = load_faces(shared_data / "faces" / "val.tar", count=4).images
    center = torch.from_numpy(crops[:, 8:120, 8:120].copy()).permute(0, 3, 1, 2).float()
    expected = nn.functional.normalize(module.load(str(folder / f"{name}.safetensors"))(center)).numpy()
    assert np.allclose(load_recognizers(folder, [name])[name].embed(crops), expected, atol=1e-5)
