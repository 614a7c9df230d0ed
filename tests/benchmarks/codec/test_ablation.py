"""Every variant of the ablation is a recipe that trains."""

from pathlib import Path

import pytest
import torch

from benchmarks.codec.ablation import VARIANTS, variant
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import teacher
from edge_stscq.config.recipe import Recipe

BASE = Recipe.load(Path(__file__).resolve().parents[3] / "recipes" / "ablation.toml")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_changes_what_it_says_and_keeps_the_budget(name: str) -> None:
    _, codec, stage = VARIANTS[name]
    changed = variant(BASE, codec, stage)
    assert (changed == BASE) == (name == "recipe")
    assert [(s.name, s.steps, s.size) for s in changed.stages] == [(s.name, s.steps, s.size) for s in BASE.stages]
    assert changed.codec.layer_ends == BASE.codec.layer_ends
    for key, value in codec.items():
        if key == "identity":
            assert changed.codec.identity_tokens == 0
        else:
            assert getattr(changed.codec, key) == value
    for each in changed.stages:
        for key, value in stage.items():
            assert value in (getattr(each, key, None), getattr(each.losses, key, None))


def test_networks_without_identity_tokens_can_be_built() -> None:
    config = variant(BASE, {"identity": False}, {}).codec
    head = teacher(config).head
    features, picture = torch.zeros(2, config.features, 16, 16), torch.zeros(2, 3, 128, 128)
    assert head(torch.zeros(2, 128), features, picture).shape == (2, 64, config.dim)
    assert Decoder(config).style_tokens == 32
