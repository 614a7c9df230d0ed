"""The judges: loading, folding and what they say of real faces."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edge_stscq.data.crops import load_faces
from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.recognisers import (
    JUDGE,
    RECOGNISERS,
    fold,
    load_recogniser,
    load_recognisers,
    recogniser_folder,
)
from edge_stscq.evaluation.verification.pairs import read_pairs


def test_folding_keeps_the_function() -> None:
    torch.manual_seed(0)
    chain = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.PReLU(4), nn.BatchNorm2d(4),
        nn.Flatten(), nn.Linear(4 * 36, 5), nn.BatchNorm1d(5),
    )  # fmt: skip
    for layer in chain:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    chain.eval()
    folded = fold(list(chain))
    assert [type(layer).__name__ for layer in folded] == ["Conv2d", "PReLU", "BatchNorm2d", "Flatten", "Linear"]
    image = torch.randn(2, 3, 8, 8)
    assert torch.allclose(folded(image), chain(image), atol=1e-5)


@pytest.mark.parametrize("content", [None, b"", b"no tensors"])
def test_missing_and_damaged_files(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "sface.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EdgeError, match="sface.safetensors"):
        load_recogniser(path)


@pytest.mark.parametrize(
    "metadata", [None, {"kind": "other", "layout": "[]"}, {"kind": "sface", "layout": '[["odd"]]'}]
)
def test_other_networks_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "net.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata)
    with pytest.raises(EdgeError, match="not a recogniser"):
        load_recogniser(path)


def test_folder_comes_from_the_option_then_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_STSCQ_DATA", raising=False)
    assert recogniser_folder() is None
    monkeypatch.setenv("EDGE_STSCQ_DATA", str(tmp_path))
    with pytest.raises(EdgeError, match="EDGE_STSCQ_DATA"):
        recogniser_folder()
    (tmp_path / "recognisers").mkdir()
    assert recogniser_folder() == tmp_path / "recognisers"
    assert recogniser_folder(tmp_path) == tmp_path
    with pytest.raises(EdgeError, match="unknown recogniser 'arc'"):
        load_recognisers(tmp_path, ["arc"])


@pytest.mark.parametrize("name", RECOGNISERS)
def test_recognisers_know_people(shared_data: Path, name: str) -> None:
    """Sixty LFW people seen twice are told apart; a pipeline with wrong colours, scale or alignment is not."""
    net = load_recognisers(shared_data / "recognisers", [name])[name]
    pairs = read_pairs(shared_data / "lfw" / "pairs.txt")
    take = np.flatnonzero(pairs.same)[::100]
    first, second = ([names[i] for i in take] for names in (pairs.first, pairs.second))
    faces = load_faces(shared_data / "lfw" / "lfw-crops.tar", names={*first, *second})
    where = {name: i for i, name in enumerate(faces.names)}
    units = net.embed(faces.images)
    assert units.shape == (len(faces), 192 if name == JUDGE else 128)
    assert np.allclose(np.linalg.norm(units, axis=1), 1, atol=1e-5)
    scores = units[[where[n] for n in first]] @ units[[where[n] for n in second]].T
    same, others = np.diag(scores), scores[~np.eye(len(take), dtype=bool)]
    assert np.mean(same > 0.35) > 0.9
    assert np.mean(others > 0.35) < 0.02


@pytest.mark.parametrize("name", RECOGNISERS)
def test_same_embeddings_as_the_loader_that_came_with_the_weights(shared_data: Path, name: str) -> None:
    folder = shared_data / "recognisers"
    spec = importlib.util.spec_from_file_location("recognisers", folder / "recognisers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    crops = load_faces(shared_data / "faces" / "val.tar", count=4).images
    centre = torch.from_numpy(crops[:, 8:120, 8:120].copy()).permute(0, 3, 1, 2).float()
    expected = nn.functional.normalize(module.load(str(folder / f"{name}.safetensors"))(centre)).numpy()
    assert np.allclose(load_recognisers(folder, [name])[name].embed(crops), expected, atol=1e-5)
