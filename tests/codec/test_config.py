from pathlib import Path

import pytest
from pydantic import ValidationError

from edge_stscq.codec.config import CodecConfig, LayerConfig
from edge_stscq.errors import EdgeError

BASIC = LayerConfig(name="basic", identity=16, spatial=0, identity_dims=64)
MIDDLE = LayerConfig(name="middle", identity=8, spatial=8, identity_dims=64)
ENHANCED = LayerConfig(name="enhanced", identity=0, spatial=32)


def config(**change: object) -> CodecConfig:
    plain = {"name": "x", "groups": 2, "entries": 256, "dim": 8, "layers": (BASIC, MIDDLE, ENHANCED)}
    return CodecConfig.model_validate(plain | change)


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
        {"layers": ()},
        {"layers": [LayerConfig(name=f"l{number}", identity=0, spatial=1) for number in range(16)]},
        {"layers": (BASIC, BASIC)},
        {"layers": (LayerConfig(name="basic", identity=0, spatial=0), MIDDLE)},
        {"layers": (LayerConfig(name="basic", identity=4, spatial=0, identity_dims=33),)},
        {"layers": (BASIC, LayerConfig(name="middle", identity=16, spatial=0, identity_dims=128))},
        {"layers": (BASIC, LayerConfig(name="middle", identity=0, spatial=4, spatial_dims=3))},
        {"layers": (BASIC, LayerConfig(name="middle", identity=0, spatial=4, spatial_dims=33))},
        {"layers": (BASIC, LayerConfig(name="middle", identity=0, spatial=4, entries=257))},
        {"layers": ({"name": "Basic", "identity": 0, "spatial": 1},)},
        {"layers": ({"name": "a-name-of-17-chars", "identity": 0, "spatial": 1},)},
        {"layers": ({"identity": 0, "spatial": 1},)},
        {"format_version": 1},
        {"format_version": 3},
        {"basic": {"identity": 0, "spatial": 1}},
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
