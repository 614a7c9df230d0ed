from pathlib import Path

import pytest
from pydantic import ValidationError

from edge_stscq.config.codec import CodecConfig, LayerConfig
from edge_stscq.errors import EdgeError

BASIC = LayerConfig(identity=16, spatial=0, identity_dims=64)
MIDDLE = LayerConfig(identity=8, spatial=8, identity_dims=64)
ENHANCED = LayerConfig(identity=0, spatial=32)


def config(**change: object) -> CodecConfig:
    layers = {"basic": BASIC, "middle": MIDDLE, "enhanced": ENHANCED}
    return CodecConfig.model_validate({"name": "x", "groups": 2, "entries": 256, "dim": 8} | layers | change)


def test_layers_are_prefixes_of_the_token_sequence() -> None:
    assert config().layer_ends == (16, 32, 64)
    assert config().tokens == 64
    assert config().identity_tokens == 24
    assert config().spatial_tokens == 40


def test_the_papers_controls_are_settings() -> None:
    assert config(groups=1, token_specific=False).groups == 1


@pytest.mark.parametrize(
    "change",
    [
        {"groups": 0},
        {"basic": LayerConfig(identity=0, spatial=0)},
        {"basic": LayerConfig(identity=4, spatial=0, identity_dims=33)},
        {"middle": LayerConfig(identity=16, spatial=0, identity_dims=128)},
        {"unknown": 1},
        {"name": "../x"},
        {"decoder_channels": (8, 8)},
    ],
)
def test_inconsistent_configurations_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        config(**change)


def test_a_file_round_trips_and_a_bad_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    config().save(path)
    assert CodecConfig.load(path) == config()
    path.write_text(path.read_text().replace('"groups": 2', '"groups": -1'))
    with pytest.raises(EdgeError, match="groups"):
        CodecConfig.load(path)
    with pytest.raises(EdgeError, match="does not exist"):
        CodecConfig.load(tmp_path / "none.json")
