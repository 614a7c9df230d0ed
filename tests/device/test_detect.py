"""The detector on two real portraits: where, which order, and not where there is nobody."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_stscq._images import read_image
from edge_stscq.device.crop import TEMPLATE, umeyama
from edge_stscq.device.detect import Detector, Face

# Eye, eye, nose, mouth corner, mouth corner, left to right in the picture; read off the portraits by eye.
BY_EYE = {
    "astronaut": [(202, 103), (246, 103), (222, 126), (201, 142), (241, 143)],
    "grace_hopper": [(226, 194), (308, 194), (267, 239), (230, 269), (303, 270)],
}


def residual(face: Face) -> float:
    """Root mean square distance of the aligned points from the template, in pixels of the crop."""
    matrix = umeyama(face.points, TEMPLATE)
    return float(np.sqrt(((face.points @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE) ** 2).sum(1).mean()))


@pytest.mark.parametrize("name", BY_EYE)
@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_points_are_where_a_person_sees_them(
    name: str, scale: float, detector: Detector, portrait: dict[str, Path]
) -> None:
    image = cv2.resize(read_image(portrait[name]), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    face = detector.largest(np.asarray(image, np.uint8))
    assert face is not None
    assert face.score > 0.85
    np.testing.assert_allclose(face.points / scale, BY_EYE[name], atol=6)
    assert residual(face) < 5


@pytest.mark.parametrize("name", BY_EYE)
@pytest.mark.parametrize("order", [(1, 0, 2, 3, 4), (0, 1, 2, 4, 3), (1, 0, 2, 4, 3), (3, 4, 2, 0, 1)])
def test_swapped_points_do_not_fit_the_template(
    name: str, order: tuple[int, ...], detector: Detector, portrait: dict[str, Path]
) -> None:
    """The order of the detector is that of the template: any swap of a pair fits visibly worse."""
    face = detector.largest(read_image(portrait[name]))
    assert face is not None
    swapped = Face(face.points[list(order)], face.box, face.score)
    assert residual(swapped) > 3 * residual(face)


def test_the_largest_of_two_faces(detector: Detector, portrait: dict[str, Path]) -> None:
    large = read_image(portrait["grace_hopper"])
    small = cv2.resize(large, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    canvas = np.full((600, 800, 3), 120, np.uint8)
    canvas[150 : 150 + small.shape[0], : small.shape[1]] = small
    canvas[:, 288:] = large
    face = detector.largest(canvas)
    assert face is not None
    assert face.box[0] > 400


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (480, 640), (3000, 31)])
def test_nobody_there(shape: tuple[int, int], detector: Detector) -> None:
    rows, columns = np.indices(shape)
    image = np.asarray(np.stack([rows % 256, columns % 256, (rows + columns) % 256], axis=-1), np.uint8)
    assert detector.largest(image) is None
