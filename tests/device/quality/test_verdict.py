"""Words of a verdict about its measurement."""

import pytest

from edge_stscq.device.quality.verdict import judge


@pytest.mark.parametrize(
    ("name", "value", "limit", "said"),
    [
        ("inter_eye_distance", 12.3, 20, "too small (eye distance 12 px is below 20)"),
        ("inter_eye_distance", 19.62, 20, "too small (eye distance 19.62 px is below 20)"),
        ("inter_eye_distance", 20.4, 20, "eye distance 20 px, at least 20"),
        ("points_outside", 0.0042, 0, "cut off by the border (farthest point outside 0.0042 eye distances is above 0)"),
        ("upright", -0.002, 0, "not upright (score beside that of other turns -0.002 is below 0)"),
    ],
)
def test_a_refused_value_never_reads_like_its_limit(name: str, value: float, limit: float, said: str) -> None:
    assert str(judge(name, value, limit)) == said
