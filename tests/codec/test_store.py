import shutil
from pathlib import Path

import pytest
import torch

from edge_stscq.bundle import model_folder
from edge_stscq.codec import store
from edge_stscq.codec.matching import Matcher
from edge_stscq.errors import EdgeError


def copy(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_a_model_folder_loads_and_its_parts_share_the_codebooks(tiny_model: Path) -> None:
    small, whole, decoder = (
        store.load_student(tiny_model), store.load_teacher(tiny_model), store.load_decoder(tiny_model)
    )  # fmt: skip
    assert torch.equal(small.codebooks.books, whole.codebooks.books)
    assert torch.equal(small.codebooks.books, decoder.codebooks.books)
    images = torch.randint(0, 256, (2, 128, 128, 3), dtype=torch.uint8)
    group, tokens = whole(images)
    assert decoder.decode(group, tokens).shape == (2, 128, 128, 3)
    assert not list(tiny_model.glob("*.part"))


def test_saving_and_loading_is_the_identity(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy(tiny_model, tmp_path)
    small = store.load_student(folder)
    store.save_student(folder, small)
    again = store.load_student(folder)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in small.state_dict().items())


def test_damage_and_gaps_are_named(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy(tiny_model, tmp_path)
    student = folder / "student.safetensors"
    whole = student.read_bytes()
    student.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EdgeError, match="student.safetensors is damaged"):
        store.load_student(folder)
    student.unlink()
    with pytest.raises(EdgeError, match="does not exist"):
        store.load_student(folder)


def test_weights_of_another_configuration_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy(tiny_model, tmp_path)
    config = model_folder.load_config(folder)
    config.model_copy(update={"style_dim": 24}).save(folder / "config.json")
    with pytest.raises(EdgeError, match=r"decoder.safetensors does not fit config.json"):
        store.load_decoder(folder)


def test_a_failed_write_keeps_the_earlier_file(tmp_path: Path) -> None:
    """The disk takes 4 KB of the file and no more."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "weights.safetensors"
    store.save_weights(path, {"a": torch.ones(3)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(EdgeError, match="cannot write .*weights.safetensors.*free some space"):
            store.save_weights(path, {"a": torch.zeros(3000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert torch.equal(store.load_weights(path)["a"], torch.ones(3))
    assert list(tmp_path.iterdir()) == [path]


def test_matching_reads_the_embedding_that_was_coded(tiny_model: Path) -> None:
    encoder = store.load_student(tiny_model)
    images = torch.randint(0, 256, (4, 128, 128, 3), dtype=torch.uint8)
    group, tokens = encoder(images)
    matcher = Matcher.load(tiny_model)
    for layers in (1, 2, 3):
        unit = matcher(group, tokens, layers)
        assert unit.shape == (4, 128)
        torch.testing.assert_close(unit.norm(dim=1), torch.ones(4))
    # changing what the basic layer does not hold cannot change the basic match
    other = tokens.clone()
    other[:, encoder.config.layer_ends[0] :] = 0
    torch.testing.assert_close(matcher(group, other, 1), matcher(group, tokens, 1))
