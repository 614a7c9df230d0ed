"""Models of 1, 4 and 15 layers do everything that one of three does."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_stscq.bundle import model_folder
from edge_stscq.codec import store
from edge_stscq.config.codec import CodecConfig
from edge_stscq.config.recipe import Losses, odds
from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream import CodedFace, FrameCodec


def test_the_configuration_round_trips(layered_model: Path, tmp_path: Path) -> None:
    config = model_folder.load_config(layered_model)
    config.save(tmp_path / "config.json")
    assert CodecConfig.load(tmp_path / "config.json") == config
    assert config.layer_ends == tuple(range(4, 4 * len(config.layers) + 1, 4))


def test_pictures_are_decoded_from_every_prefix(layered_model: Path) -> None:
    config = model_folder.load_config(layered_model)
    count, decoder = len(config.layers), store.load_decoder(layered_model)
    group, tokens = store.load_student(layered_model)(torch.randint(0, 256, (2, 128, 128, 3), dtype=torch.uint8))
    assert tokens.shape == (2, config.tokens)
    torch.nn.init.normal_(decoder.absent)
    pictures = [decoder.decode(group, tokens[:, :end], n) for n, end in enumerate(config.layer_ends, 1)]
    assert all(not torch.equal(a, b) for a, b in zip(pictures, pictures[1:], strict=False))
    assert torch.equal(decoder.decode(group, tokens), pictures[-1])
    for layers in (0, count + 1):
        with pytest.raises(ValueError, match=rf"{layers} is not 1 to {count}, the layers of this model"):
            decoder.decode(group, tokens, layers)
    with pytest.raises(ValueError, match=f"{config.tokens - 1} tokens do not make {count} layers"):
        decoder.decode(group, tokens[:, :-1])


def test_frames_of_every_prefix_come_back_and_are_cut(layered_model: Path) -> None:
    config, tables = model_folder.load_config(layered_model), model_folder.load_tables(layered_model)
    count, codec = len(config.layers), FrameCodec(tables, b"\1" * 8)
    tokens = np.random.default_rng(0).integers(config.entries, size=config.tokens).astype(np.uint16)
    whole = CodedFace(1, tokens, count)
    frame = codec.encode_frame(whole)
    assert frame[0] == count
    for layers, end in enumerate(config.layer_ends, 1):
        cut = CodedFace(1, tokens[:end], layers)
        assert whole.truncate(layers, config.layer_ends) == cut
        assert codec.decode_frame(codec.encode_frame(cut)) == (cut, len(codec.encode_frame(cut)))
    with pytest.raises(EdgeError, match=f"cannot cut a face of {count} layers to {count + 1}"):
        whole.truncate(count + 1, config.layer_ends)
    if count < 15:
        with pytest.raises(EdgeError, match=f"the face has {count + 1} layers, this model has {count}"):
            codec.encode_frame(CodedFace(1, tokens, count + 1))
    with pytest.raises(FrameError, match=f"layer count {count + 1} is not 1 to {count}"):
        codec.decode_frame(bytes([count + 1]) + frame[1:])
    with pytest.raises(EdgeError, match="a face has 1 to 15 layers, not 16"):
        CodedFace(1, tokens, 16)


def test_training_has_sensible_numbers_for_any_count(layered_model: Path) -> None:
    count = len(model_folder.load_config(layered_model).layers)
    chances, pixels, identities = odds((), count), Losses().pixel_factors(count), Losses().identity_factors(count)
    assert len(chances) == len(pixels) == len(identities) == count
    assert sum(chances) == pytest.approx(1)
    assert max(chances) == chances[-1]
    assert pixels[-1] == 1
    assert list(pixels) == sorted(pixels)
    assert min(pixels) == (1 if count == 1 else pytest.approx(0.3))
