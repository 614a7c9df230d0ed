"""Pixels outside the mask change no metric."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.evaluation.appearance.masked import only_picture
from edge_stscq.evaluation.metrics import ms_ssim, squared_error, total_variation

Pictures = NDArray[np.uint8]


@pytest.fixture
def mask() -> NDArray[np.bool_]:
    inside = np.zeros((2, 128, 128), bool)
    inside[:, 20:110, 30:100] = True
    return inside


def test_outside_is_the_original_and_between_is_both(people: Pictures, mask: NDArray[np.bool_]) -> None:
    decoded = people[::-1]
    shown = only_picture(people, decoded, mask)
    assert np.array_equal(shown[mask], decoded[mask])
    assert np.array_equal(shown[~mask], people[~mask])
    half = only_picture(np.full_like(people, 10), np.full_like(people, 20), np.full(mask.shape, 0.5))
    assert (half == 15).all()
    assert only_picture(people, decoded) is decoded


def test_changes_outside_change_no_metric(people: Pictures, mask: NDArray[np.bool_]) -> None:
    decoded, changed = people[::-1].copy(), people[::-1].copy()
    changed[~mask] = 255 - changed[~mask]
    for metric in (squared_error, ms_ssim):
        assert np.array_equal(metric(people, decoded, mask), metric(people, changed, mask))
    assert np.array_equal(total_variation(decoded, mask), total_variation(changed, mask))


def test_a_mask_of_everything_is_none(people: Pictures) -> None:
    decoded, whole = people[::-1], np.ones((2, 128, 128))
    for metric in (squared_error, ms_ssim):
        np.testing.assert_allclose(metric(people, decoded, whole), metric(people, decoded), rtol=1e-5)
    np.testing.assert_allclose(total_variation(people, whole), total_variation(people), rtol=1e-6)


def test_errors_are_averaged_over_the_picture_only(mask: NDArray[np.bool_]) -> None:
    black = np.zeros((2, 128, 128, 3), np.uint8)
    grey = np.where(mask[..., None], 10, 200).astype(np.uint8).repeat(3, axis=-1)
    assert squared_error(black, grey, mask).tolist() == [100, 100]


def test_total_variation_counts_steps_and_sees_grain(people: Pictures) -> None:
    picture = np.zeros((1, 128, 128, 3), np.uint8)
    picture[:, :, 64:] = 10
    assert total_variation(picture).tolist() == [10 * 3 * 128]
    mask = np.ones((1, 128, 128), bool)
    mask[:, :64, 64:] = False
    assert total_variation(picture, mask).tolist() == [10 * 3 * 64]
    grain = np.clip(people + np.random.default_rng(0).normal(0, 8, people.shape), 0, 255).astype(np.uint8)
    assert (total_variation(grain) > 1.1 * total_variation(people)).all()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((2, 64, 64)), "do not fit"),
        (np.full((2, 128, 128), 255), "between 0"),
        (np.full((2, 128, 128), np.nan), "between 0"),
        (np.zeros((2, 128, 128), bool), "hides all"),
    ],
)
def test_wrong_masks_are_refused(people: Pictures, mask: NDArray[np.generic], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        squared_error(people, people, mask)
