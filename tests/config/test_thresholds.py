"""The two bars of a recipe."""

import pytest
from pydantic import ValidationError

from edge_stscq.config.thresholds import ParityThresholds, Thresholds, at_least, at_most


def test_a_floor_repeats_only_what_it_lowers() -> None:
    bars = ParityThresholds.model_validate(
        {"identity": 0.9, "token_agreement": 0.95, "floor": {"token_agreement": 0.8}}
    )
    assert bars.floor == Thresholds(identity=0.9, token_agreement=0.8)
    assert (bars.token_agreement, bars.group_agreement) == (0.95, Thresholds().group_agreement)


def test_there_is_no_floor_that_nobody_stated() -> None:
    assert ParityThresholds.model_validate({"identity": 0.9}).floor is None


@pytest.mark.parametrize("table", [{"identitty": 0.9}, {"floor": {"speed": 1}}, {"accuracy_lost": -0.1}, {"floor": 3}])
def test_nonsense_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ParityThresholds.model_validate(table)


def test_limits_themselves_pass() -> None:
    assert at_least("x", 0.9, 0.9).passed
    assert not at_least("x", 0.8999, 0.9).passed
    assert at_most("x", 0.001, 0.001).passed
    assert not at_most("x", 0.0011, 0.001).passed
