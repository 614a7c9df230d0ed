"""A model folder read without torch: what it holds, and one line for what it lacks."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from edge_stscq.bundle import model_folder
from edge_stscq.errors import EdgeError
from edge_stscq.stream.learned import Learned
from tests.support.models.learned_weights import draw_weights


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def without(folder: Path, name: str, key: str) -> None:
    tensors = load_file(folder / name)
    del tensors[key]
    save_file(tensors, folder / name)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "codebooks.safetensors").unlink(), "codebooks.safetensors does not exist"),
        (lambda folder: (folder / "codebooks.safetensors").write_bytes(b"{}"), "codebooks.safetensors is damaged"),
        (lambda folder: without(folder, "codebooks.safetensors", "books"), "holds no codebooks"),
        (lambda folder: without(folder, "student.safetensors", "head.identity.centre"), "does not fit config.json"),
        (lambda folder: (folder / "student.safetensors").unlink(), "student.safetensors does not exist"),
    ],
)
def test_load_matcher_says_what_is_wrong_with_a_folder(
    folder: Path, spoil: Callable[[Path], object], said: str
) -> None:
    assert model_folder.load_matcher(folder).config == model_folder.load_config(folder)
    spoil(folder)
    with pytest.raises(EdgeError, match=f"{said}.*copy"):
        model_folder.load_matcher(folder)


def test_frames_of_the_learned_coder_are_read_where_the_folder_has_one(folder: Path) -> None:
    tables = model_folder.load_tables(folder)
    weights = draw_weights(tables)
    assert model_folder.load_learned(folder) is None
    weights.save(folder / "learned.safetensors")
    learned = model_folder.load_learned(folder)
    assert learned is not None
    assert learned.coder_id == Learned(weights, tables).coder_id
    assert learned.coder_id in model_folder.load_frame_codec(folder).coders
    (folder / "learned.safetensors").write_bytes(b"{}")
    with pytest.raises(EdgeError, match=r"learned.safetensors: not a file of a learned entropy model"):
        model_folder.load_frame_codec(folder)
