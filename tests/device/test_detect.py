"""The detector on two real portraits: where, which order, and not where there is nobody."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_stscq._images import read_image
from edge_stscq.device.crop import TEMPLATE, umeyama
from edge_stscq.device.detect import Detector, Face, overlap

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


def test_all_faces_largest_first(detector: Detector, portrait: dict[str, Path]) -> None:
    image = read_image(portrait["grace_hopper"])[:500]
    canvas = np.full((500, 1300, 3), 120, np.uint8)
    for left, times in ((0, 0.4), (300, 1.0), (850, 0.7)):
        part = cv2.resize(image, None, fx=times, fy=times, interpolation=cv2.INTER_AREA)
        canvas[: part.shape[0], left : left + part.shape[1]] = part
    faces = detector.faces(canvas)
    assert [round(face.middle[0]) // 100 for face in faces] == [5, 10, 1]


@pytest.mark.parametrize("name", BY_EYE)
def test_points_of_a_small_face_in_4k_are_refined(name: str, detector: Detector, portrait: dict[str, Path]) -> None:
    image = read_image(portrait[name])
    large = detector.largest(image)
    assert large is not None
    times = 60 / large.box[2]
    small = cv2.resize(image, None, fx=times, fy=times, interpolation=cv2.INTER_AREA)
    picture = np.full((2160, 3840, 3), 127, np.uint8)
    picture[900 : 900 + small.shape[0], 700 : 700 + small.shape[1]] = small
    expected = np.array(BY_EYE[name]) * times + (700, 900)
    found = detector.largest(picture)
    assert found is not None
    refined = detector.refine(picture, found)
    off, before = (float(np.linalg.norm(face.points - expected, axis=1).mean()) for face in (refined, found))
    assert off < 2
    assert before > 2 * off
    assert refined.score > 0.9 > found.score


@pytest.mark.parametrize(
    ("name", "degrees"), [("grace_hopper", 25), ("grace_hopper", -25), ("grace_hopper", 45), ("astronaut", -35)]
)
def test_points_of_a_turned_face_are_refined(
    name: str, degrees: float, detector: Detector, portrait: dict[str, Path]
) -> None:
    image = read_image(portrait[name])
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    picture = np.asarray(cv2.warpAffine(image, matrix, (width, height), borderValue=(120, 120, 120)), np.uint8)
    expected = np.array(BY_EYE[name]) @ matrix[:, :2].T + matrix[:, 2]
    found = detector.largest(picture)
    assert found is not None
    refined = detector.refine(picture, found)
    off, before = (float(np.linalg.norm(face.points - expected, axis=1).mean()) for face in (refined, found))
    assert off < 0.8 * before


def test_face_that_was_seen_at_full_resolution_stays(detector: Detector, portrait: dict[str, Path]) -> None:
    image = read_image(portrait["astronaut"])
    face = detector.largest(image)
    assert face is not None
    assert detector.refine(image, face) is face


@pytest.mark.parametrize("box", [(100.0, 50.0, 30.0, 40.0), (-30.0, -40.0, 30.0, 40.0), (639.0, 479.0, 50.0, 60.0)])
def test_face_that_the_second_look_does_not_find_stays(box: tuple[float, ...], detector: Detector) -> None:
    face = Face(np.zeros((5, 2)), box, 0.9)  # type: ignore[arg-type]
    assert detector.refine(np.full((480, 640, 3), 90, np.uint8), face) is face


@pytest.mark.parametrize(
    ("other", "share"),
    [((0, 0, 10, 10), 1), ((5, 0, 10, 10), 1 / 3), ((2, 2, 5, 5), 1 / 4), ((10, 0, 5, 5), 0), ((0, 0, 0, 0), 0)],
)
def test_overlap_is_the_share_of_area_in_common(other: tuple[float, float, float, float], share: float) -> None:
    points = np.zeros((5, 2))
    assert overlap(Face(points, (0, 0, 10, 10), 1), Face(points, other, 1)) == pytest.approx(share)


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (480, 640), (3000, 31)])
def test_nobody_there(shape: tuple[int, int], detector: Detector) -> None:
    rows, columns = np.indices(shape)
    image = np.asarray(np.stack([rows % 256, columns % 256, (rows + columns) % 256], axis=-1), np.uint8)
    assert detector.largest(image) is None


@pytest.mark.parametrize("eyes", [20, 40, 90])
def test_glance_sees_whoever_is_near_enough(eyes: int, detector: Detector, portrait: dict[str, Path]) -> None:
    image = read_image(portrait["astronaut"])
    face = detector.largest(image)
    assert face is not None
    frame = np.full((480, 640, 3), 120, np.uint8)
    assert not detector.glance(frame)
    scale = eyes / face.eye_distance
    small = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)[:480, :640]
    frame[: small.shape[0], 640 - small.shape[1] :] = small
    assert detector.glance(frame)


def test_glance_spares_pictures_that_are_halved_anyway(detector: Detector) -> None:
    assert detector.glance(np.full((720, 1280, 3), 120, np.uint8))
