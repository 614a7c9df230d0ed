"""The formulas of the papers, worked out by hand, and what rotated groups promise."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.privacy import PolyProtect, RecordKey, RotatedGroups, SlerpFace
from edge_stscq.privacy.draws import gaussian, orders
from edge_stscq.privacy.polyprotect import Polynomial
from edge_stscq.privacy.slerpface import DIMS, GROUPS, slerp, unit_groups

Key = Callable[..., RecordKey]
Embeddings = NDArray[np.float32]


def test_slerp_goes_its_part_of_the_angle() -> None:
    start, end = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    for way in (0.0, 0.25, 0.775, 1.0):
        turned = slerp(start, end, np.array([way]))
        np.testing.assert_allclose(turned, [[np.cos(way * np.pi / 2), np.sin(way * np.pi / 2)]], atol=1e-6)
    np.testing.assert_allclose(slerp(start, start, np.array([0.5])), start, atol=1e-3)


def test_slerpface_stores_its_attention_as_norms(embeddings: Embeddings, key: Key) -> None:
    """The published flaw, which no key changes."""
    scheme = SlerpFace()
    norms = [
        np.linalg.norm(scheme.checked(scheme.enroll(embeddings[0], key(name)), key(name)).reshape(GROUPS, DIMS), axis=1)
        for name in ("a", "b")
    ]
    np.testing.assert_allclose(norms[0], norms[1], atol=1e-6)
    np.testing.assert_allclose(norms[0], scheme.attention(embeddings[0].astype(np.float64)), atol=1e-6)


def test_polyprotect_is_the_sum_of_powers_over_windows() -> None:
    scheme, unit = PolyProtect(overlap=3), np.zeros(128)
    unit[:7] = [0.5, -0.5, 0.25, 0.1, 0.2, 0.3, 0.4]
    unit /= np.linalg.norm(unit)
    polynomial = Polynomial(np.array([3.0, -7, 20, 1, 50]), np.array([2, 1, 5, 3, 4]))
    stored = scheme.protect(unit, polynomial)
    v = unit[2:7]
    expected = 3 * v[0] ** 2 - 7 * v[1] + 20 * v[2] ** 5 + v[3] ** 3 + 50 * v[4] ** 4
    assert stored[1] == pytest.approx(expected, rel=1e-5)
    assert len(stored) == 63  # 5 + 62 * 2 = 129 numbers, the last a zero


@pytest.mark.parametrize(("overlap", "windows"), [(0, 26), (1, 32), (2, 42), (3, 63), (4, 124)])
def test_polyprotect_windows_cover_the_embedding(overlap: int, windows: int) -> None:
    scheme = PolyProtect(overlap)
    numbers = scheme.windowed(np.arange(1, 129) / 1.0)
    assert scheme.windows == windows
    assert set(numbers.ravel().round(9)) - {0} == set(np.arange(1, 129) / 1.0)


def test_polyprotect_draws_distinct_coefficients_and_an_order_of_exponents(key: Key) -> None:
    for name in range(50):
        coefficients, exponents = PolyProtect().parameters(key(name))
        assert len(set(coefficients)) == 5
        assert 0 not in coefficients
        assert abs(coefficients).max() <= 50
        assert sorted(exponents) == [1, 2, 3, 4, 5]


def test_rotations_have_orthonormal_rows(key: Key) -> None:
    kept = RotatedGroups(kept=12).parameters(key("a")).kept
    np.testing.assert_allclose(kept @ np.swapaxes(kept, 1, 2), np.broadcast_to(np.eye(12), (8, 12, 12)), atol=1e-12)


def test_rotated_values_have_the_same_distribution_for_any_face(embeddings: Embeddings, key: Key) -> None:
    """Means and covariances over keys are those of the uniform distribution, of a face with loud dimensions, too."""
    loud = np.full(128, 0.01)
    loud[::16] = 1
    scheme = RotatedGroups()
    for unit in (embeddings[0].astype(np.float64), loud / np.linalg.norm(loud)):
        turned = [
            np.einsum("gkd,gd->gk", scheme.parameters(key(name)).kept, unit_groups(unit.reshape(GROUPS, DIMS)))
            for name in range(600)
        ]
        values = np.stack(turned).reshape(600, -1)
        assert abs(values.mean(0)).max() < 5 * 0.25 / 600**0.5
        np.testing.assert_allclose(values.T @ values / 600, np.eye(96) / 16, atol=6 / 16 / 600**0.5)


@pytest.mark.parametrize(("kept", "bits"), [(12, 4), (16, 3), (8, 5), (10, 4)])
def test_rounded_values_come_back_within_half_a_step(kept: int, bits: int, embeddings: Embeddings, key: Key) -> None:
    scheme = RotatedGroups(kept, bits)
    values = scheme.protect(embeddings[0].astype(np.float64), scheme.parameters(key("a")))
    back, limit = scheme.unpack(scheme.pack(values)), 3 / kept**0.5
    inside = abs(values) < limit
    assert abs(back - values)[inside].max() <= limit / 2**bits + 1e-6
    assert len(scheme.pack(values)) == kept * bits


def test_own_template_of_rotated_groups_scores_about_one(embeddings: Embeddings, key: Key) -> None:
    scheme = RotatedGroups()
    scores = [scheme.match(scheme.enroll(unit, key(i)), unit, key(i)) for i, unit in enumerate(embeddings)]
    assert np.mean(scores) == pytest.approx(1, abs=0.05)


def test_draws_are_fixed_by_the_key(key: Key) -> None:
    """Values that a port must reproduce."""
    assert gaussian(key("a"), "test", (4,)).round(6).tolist() == GAUSSIAN
    assert orders(key("a"), "test", 1, 8)[0].tolist() == ORDER


def test_gaussian_draws_are_standard_normal(key: Key) -> None:
    drawn = gaussian(key("b"), "test", (40_000,))
    assert abs(drawn.mean()) < 0.03
    assert abs(drawn.std() - 1) < 0.03
    assert abs(np.mean(abs(drawn) < 1) - 0.6827) < 0.01


GAUSSIAN = [0.731545, 0.371695, 0.573223, -1.348973]
ORDER = [4, 2, 0, 6, 7, 5, 1, 3]
