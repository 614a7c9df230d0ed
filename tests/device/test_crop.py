"""The crop is where the similarity says, in both directions of scale and up to the border."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_stscq.device.crop import SPEC, TEMPLATE, crop_face, crop_mask, picture_corners, umeyama


def similarity(scale: float, angle: float, shift: tuple[float, float]) -> NDArray[np.float64]:
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, shift])


def apply(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points @ matrix[:, :2].T + matrix[:, 2]


@settings(deadline=None)
@given(
    scale=st.floats(0.05, 20), angle=st.floats(-3.1, 3.1), x=st.floats(-1000, 1000), y=st.floats(-1000, 1000)
)  # fmt: skip
def test_umeyama_recovers_a_similarity(scale: float, angle: float, x: float, y: float) -> None:
    truth = similarity(scale, angle, (x, y))
    np.testing.assert_allclose(umeyama(TEMPLATE, apply(truth, TEMPLATE)), truth, rtol=1e-6, atol=1e-6)


def test_umeyama_minimises_the_squared_error() -> None:
    noise = np.random.default_rng(3).normal(0, 3, TEMPLATE.shape)
    best = umeyama(TEMPLATE, TEMPLATE + noise)

    def error(matrix: NDArray[np.float64]) -> float:
        return float(((apply(matrix, TEMPLATE) - TEMPLATE - noise) ** 2).sum())

    for change in (similarity(1.001, 0, (0, 0)), similarity(1, 0.001, (0, 0)), similarity(1, 0, (0.05, 0))):
        moved = np.column_stack([change[:, :2] @ best[:, :2], change[:, :2] @ best[:, 2] + change[:, 2]])
        assert error(best) < error(moved)


def test_umeyama_never_mirrors() -> None:
    matrix = umeyama(TEMPLATE * [-1, 1], TEMPLATE)
    assert np.linalg.det(matrix[:, :2]) > 0


def test_umeyama_refuses_coincident_points() -> None:
    with pytest.raises(ValueError, match="coincide"):
        umeyama(np.ones((5, 2)), TEMPLATE)


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5, 7.3])
@pytest.mark.parametrize("angle", [0.0, 0.35, -1.2])
def test_points_land_on_the_template(scale: float, angle: float) -> None:
    """Blobs drawn at the five points of a turned and scaled face end at the template, to a fifth of a pixel."""
    middle = np.array([500.3, 480.8])
    points = apply(similarity(scale, angle, (0, 0)), TEMPLATE - TEMPLATE.mean(0)) + middle
    rows, columns = np.mgrid[:960, :1000]
    spread = 2.5 * scale
    image = np.zeros((960, 1000))
    for x, y in points:
        image += 230 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * spread**2))
    crop = crop_face(np.repeat(np.asarray(image.round(), np.uint8)[..., None], 3, axis=2), points)
    assert crop.shape == (SPEC.size, SPEC.size, 3)
    assert crop.dtype == np.uint8
    for x, y in TEMPLATE:
        left, top = round(x) - 7, round(y) - 7
        patch = crop[top : top + 15, left : left + 15, 0].astype(float)
        ys, xs = np.mgrid[top : top + 15, left : left + 15]
        found = np.array([(patch * xs).sum(), (patch * ys).sum()]) / patch.sum()
        np.testing.assert_allclose(found, (x, y), atol=0.2)


def test_a_large_face_does_not_alias() -> None:
    """A pattern of single pixels averages to grey when the face shrinks; bilinear reading would show moire."""
    board = np.asarray(255 * (np.indices((1200, 1200)).sum(0) % 2), np.uint8)
    crop = crop_face(np.repeat(board[..., None], 3, axis=2), TEMPLATE * 8.5 + 40)
    assert abs(float(crop.mean()) - 127.5) < 2
    assert crop.std() < 8


def test_the_border_is_reflected() -> None:
    image = np.random.default_rng(1).integers(0, 256, (100, 100, 3), np.uint8)
    crop = crop_face(image, TEMPLATE - [34, 34])  # the crop reaches 34 pixels over the left and upper border
    np.testing.assert_array_equal(crop[40, 34:60], crop[40, 33:7:-1])
    np.testing.assert_array_equal(crop[34:60, 50], crop[33:7:-1, 50])


def test_colors_keep_their_order() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    image[..., 0] = 255
    assert crop_face(image, TEMPLATE * 2)[64, 64].tolist() == [255, 0, 0]


def test_a_face_of_the_right_size_and_turn_is_merely_cut_out() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 220, 3), np.uint8)
    np.testing.assert_array_equal(crop_face(image, TEMPLATE + [30, 20]), image[20:148, 30:158])


def test_mask_says_what_of_a_crop_is_photograph() -> None:
    points = (TEMPLATE - SPEC.size / 2) * 2.5 + [150, 210]
    photograph = np.full((300, 260, 3), 255, np.uint8)
    wide = cv2.copyMakeBorder(photograph, 200, 200, 200, 200, cv2.BORDER_CONSTANT)
    crop = crop_face(wide, points + 200)  # black where the photograph ends
    mask = crop_mask(photograph.shape, points)
    assert 0.2 < (mask > 0).mean() < 0.95
    white = crop[..., 0] > 127
    assert (white != (mask > 0)).mean() < 0.02
    assert not (mask > 0)[~cv2.dilate(white.astype(np.uint8), np.ones((5, 5))).astype(bool)].any()
    whole = crop_mask((1000, 1000), points + 400)
    assert whole.min() == 255


def test_corners_go_clockwise_and_may_lie_outside() -> None:
    """Corners go clockwise and lie outside where the photograph does."""
    corners = picture_corners((300, 260), (TEMPLATE - SPEC.size / 2) * 2.5 + [150, 210])
    following = np.roll(corners, -1, axis=0)
    assert (corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]).sum() > 0
    assert corners[0, 0] == pytest.approx((-0.5 - 150) / 2.5 + 64)
    assert corners[0, 1] < 0
