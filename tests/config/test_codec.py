import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from edge_stscq.config.codec import CodecConfig, LayerConfig
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


def test_a_file_of_format_1_is_read_and_written_as_format_2(model_of_format_1: Path, tmp_path: Path) -> None:
    old = json.loads((model_of_format_1 / "config.json").read_text())
    assert "format_version" not in old
    assert "layers" not in old
    read = CodecConfig.load(model_of_format_1 / "config.json")
    assert read.layers == (BASIC, MIDDLE, ENHANCED)
    assert read.layer_names == ("basic", "middle", "enhanced")
    read.save(tmp_path / "config.json")
    new = json.loads((tmp_path / "config.json").read_text())
    assert new["format_version"] == 2
    assert [layer["name"] for layer in new["layers"]] == ["basic", "middle", "enhanced"]
    assert not new.keys() & {"basic", "middle", "enhanced"}
    assert CodecConfig.load(tmp_path / "config.json") == read


@pytest.mark.parametrize(
    ("layer", "message"),
    [({"identity": -1, "spatial": 0}, r"layers.1.identity"), (5, r"layers.1"), ({"spatial": 8}, r"layers.1.identity")],
)
def test_a_bad_layer_of_format_1_is_named(model_of_format_1: Path, tmp_path: Path, layer: object, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads((model_of_format_1 / "config.json").read_text()) | {"middle": layer}))
    with pytest.raises(EdgeError, match=message):
        CodecConfig.load(path)


def test_a_layer_count_is_held_against_the_model() -> None:
    assert [config().check_layers(layers) for layers in (1, 2, 3)] == [1, 2, 3]
    with pytest.raises(EdgeError, match=r"cannot take 4 layers: model x has 3 layers \(basic, .*\); choose 1 to 3"):
        config().check_layers(4)
    with pytest.raises(EdgeError, match="model x has one layer"):
        config(layers=(BASIC,)).check_layers(2)
    with pytest.raises(EdgeError, match="cannot take 0 layers"):
        config().check_layers(0)


def test_style_comes_from_the_layers_that_say_who_it_is() -> None:
    plain = [LayerConfig(name=f"l{number}", identity=0, spatial=4) for number in range(4)]
    assert config().style_tokens == 32
    assert config(layers=(BASIC, *plain)).style_tokens == 16
    assert config(layers=(plain[0], BASIC, *plain[1:])).style_tokens == 20
    assert config(layers=plain).style_tokens == 12
    assert config(layers=plain[:1]).style_tokens == 4
