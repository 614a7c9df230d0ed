"""The arithmetic of the crop: to the bit as docs/spec/crop.md says, and within one grey level of OpenCV's."""

import hashlib
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq._images import read_image
from edge_stscq.device.crop import TEMPLATE, crop_face, umeyama
from edge_stscq.device.detect import Detector
from edge_stscq.device.warp import WEIGHTS, warp
from tests.device.crop_reader import CropReader, Points, golden_value

GOLDEN = Path(__file__).parent.parent / "golden" / "crop.json"


def placed(scale: float, degrees: float, middle: tuple[float, float]) -> NDArray[np.float64]:
    """The five points of a face that is `scale` times as large as its crop, whose middle is at `middle`."""
    angle = np.radians(degrees)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (TEMPLATE - 64) @ turn.T + middle


CASES = {
    "cut out": (200, 180, placed(1, 0, (94, 84))),
    "enlarged and turned": (180, 160, placed(0.3, 17, (85.3, 78.1))),
    "enlarged 100 times": (9, 9, placed(0.01, 3, (4.2, 4.7))),
    "shrunk and turned": (640, 480, placed(1.87, -14, (322.4, 239.7))),
    "barely shrunk": (640, 480, placed(1.001, 2, (200.4, 300.7))),
    "halved": (320, 300, placed(2, 0, (160, 150))),
    "three quarters": (320, 240, placed(4 / 3, 5, (160, 120))),
    "a quarter": (640, 640, placed(4, -8, (320, 320))),
    "large": (1920, 1080, placed(7.3, 9, (960, 540))),
    "upside down": (300, 300, placed(1.4, 180, (150, 151))),
    "over a corner": (300, 200, placed(1.3, 30, (20, 12))),
    "reflected many times": (23, 17, placed(1, 10, (12, 9))),
    "shrunk to some pixels": (50, 30, placed(12, 0, (25, 15))),
    "narrow": (3, 700, placed(2.2, 1, (1, 350))),
    "far outside": (100, 100, placed(2.2, 1, (-50_000, 90_000))),
}


def generated(width: int, height: int) -> NDArray[np.uint8]:
    y, x, z = np.ogrid[:height, :width, :3]
    slow = ((x * x * (z + 3) + 7 * x * y + y * y * (5 - z)) >> 4) + 31 * (x // 16 + y // 16) * (z + 1)
    return np.asarray(slow % 256, np.uint8)


def golden() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(GOLDEN.read_text())
    return found


@pytest.mark.skipif("GENERATE_EXPECTED" not in os.environ, reason="right only when the page and every port change")
def test_golden_vectors_are_written() -> None:
    vectors = []
    for name, (width, height, points) in CASES.items():
        crop = crop_face(generated(width, height), points)
        digest = hashlib.sha256(crop.tobytes()).hexdigest()
        vectors.append({
            "name": name, "width": width, "height": height, "points": points.tolist(), "crop": digest,
            "middle": crop[64, 64].tolist(),
        })  # fmt: skip
    GOLDEN.write_text(json.dumps(vectors, indent=1) + "\n")


@pytest.mark.parametrize("number", range(len(CASES)), ids=list(CASES))
def test_crops_have_the_golden_bytes(number: int) -> None:
    vector = golden()[number]
    crop = crop_face(generated(vector["width"], vector["height"]), np.array(vector["points"]))
    assert crop[64, 64].tolist() == vector["middle"]
    assert hashlib.sha256(crop.tobytes()).hexdigest() == vector["crop"]


@pytest.mark.parametrize("number", range(len(CASES)), ids=list(CASES))
def test_the_page_read_by_itself_gives_the_same(number: int) -> None:
    vector = golden()[number]
    width, height = vector["width"], vector["height"]
    points: Points = [(x, y) for x, y in vector["points"]]
    reader = CropReader(golden_value, width, height, points)
    crop = crop_face(generated(width, height), np.array(points))
    for place in [(0, 0), (127, 0), (0, 127), (127, 127), *np.random.default_rng(number).integers(0, 128, (40, 2))]:
        j, i = map(int, place)
        assert crop[i, j].tolist() == list(reader.pixel(j, i)), (j, i)


def test_a_picture_whose_sums_need_64_bits_gives_the_same() -> None:
    """Above 16.7 megapixels; every row is the same one, so that the picture takes no memory."""
    width, height = 9000, 2001
    row = generated(width, 1)
    picture = np.broadcast_to(row, (height, width, 3))
    points = placed(9.7, 21, (7000, 1000))
    reader = CropReader(lambda x, y, z: int(row[0, x, z]), width, height, [(x, y) for x, y in points.tolist()])
    crop = crop_face(picture, points)
    for j, i in ((3, 5), (64, 64), (120, 40)):
        assert crop[i, j].tolist() == list(reader.pixel(j, i))


def opencv_crop(image: NDArray[np.uint8], points: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The crop as it was before it had an arithmetic of its own, by which all networks so far were trained."""
    matrix = umeyama(points, TEMPLATE)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 1:
        height, width = image.shape[:2]
        small = max(1, round(width * scale)), max(1, round(height * scale))
        image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
        stretch = np.array([width / small[0], height / small[1]])
        matrix = np.column_stack([matrix[:, :2] * stretch, matrix[:, 2] + matrix[:, :2] @ (0.5 * stretch - 0.5)])
    found = cv2.warpAffine(image, matrix, (128, 128), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(found, np.uint8)


def differences(image: NDArray[np.uint8], points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Grey levels between OpenCV's crop and ours."""
    return np.asarray(np.abs(opencv_crop(image, points).astype(np.int64) - crop_face(image, points)), np.int64)


@pytest.mark.parametrize("name", ["grace_hopper", "astronaut"])
def test_portraits_are_within_one_grey_level_of_opencv(
    portrait: dict[str, Path], detector: Detector, name: str
) -> None:
    picture = read_image(portrait[name])
    face = detector.largest(picture)
    assert face is not None
    random, middle = np.random.default_rng(0), face.points.mean(0)
    found = []
    for scale in np.geomspace(0.05, 2, 30):
        moved = placed(scale, random.uniform(-180, 180), (0, 0)) * np.linalg.norm(face.points[1] - face.points[0]) / 35
        found.append(differences(picture, moved + middle + random.normal(0, 9, 2)))
    assert np.max(found) == 1
    assert np.mean(found) < 0.01


@pytest.mark.parametrize("size", [(640, 480), (250, 250), (1280, 720), (90, 120)])
def test_noise_is_within_one_grey_level_of_opencv(size: tuple[int, int]) -> None:
    random = np.random.default_rng(size)
    picture = random.integers(0, 256, (size[1], size[0], 3), np.uint8)
    for scale in (0.2, 0.9, 1, 4 / 3, 1.6, 2, 2.7, 3, 4):
        points = placed(scale * min(1, min(size) / 400), random.uniform(-40, 40), (size[0] / 2, size[1] / 2))
        assert differences(picture, points).max() <= 1, scale


def test_portraits_of_a_film_are_within_one_grey_level_of_opencv(shared_data: Path, detector: Detector) -> None:
    files = sorted((shared_data / "portraits").glob("*.jpg"))
    assert len(files) == 20
    for number, file in enumerate(files):
        picture = read_image(file)
        side = (1024, 512, 341, 250)[number % 4]
        picture = np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
        face = detector.largest(picture)
        assert face is not None
        assert differences(picture, face.points).max() <= 1, file.name


def test_weights_sum_to_one_and_pass_through_pixels() -> None:
    assert (WEIGHTS.sum(0) == 1 << 14).all()
    assert WEIGHTS[:, 0].tolist() == [0, 1 << 14, 0, 0]
    assert np.abs(WEIGHTS).sum(0).max() * 255 * np.abs(WEIGHTS).sum(0).max() < 2**31 << 7


@pytest.mark.parametrize(
    ("points", "why"),
    [
        (np.ones((5, 2)), "coincide"),
        (TEMPLATE * [[np.nan, 1]], "not finite"),
        (TEMPLATE * 1e200, "not finite"),
        (TEMPLATE * 1e9, "would be scaled by 1e-09"),
        (TEMPLATE * 130, "would be scaled by 0.00769"),
        (TEMPLATE * 1e-4 + 30, "would be scaled by 1e"),
        (np.ones((5, 2)) + 1e-300 * TEMPLATE, "coincide"),
        (TEMPLATE * 120, "nothing is left of 60 x 50 pixels"),
        (TEMPLATE + 1e7, "more than 1,048,576 pixels away"),
        (TEMPLATE * 1e-160, "coincide|would be scaled"),
        (TEMPLATE * [[-1, 1]] * [[0.2, 1]], None),
    ],
)
def test_points_of_no_face_are_refused(points: NDArray[np.float64], why: str | None) -> None:
    picture = generated(60, 50)
    if why is None:
        assert crop_face(picture, points).shape == (128, 128, 3)
        return
    with pytest.raises(ValueError, match=why):
        crop_face(picture, points)


@pytest.mark.parametrize(("size", "scale"), [((20_000, 20_000), 60), ((60_000, 200), 64), ((200, 60_000), 1)])
def test_memory_does_not_grow_with_the_picture(size: tuple[int, int], scale: float) -> None:
    picture = np.broadcast_to(np.uint8(77), (size[1], size[0], 3))
    tracemalloc.start()
    try:
        crop = crop_face(picture, placed(scale, 40, (size[0] / 2, size[1] / 2)))
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert (crop == 77).all()


def test_a_view_is_read_as_it_looks() -> None:
    picture, points = generated(300, 200), placed(1.4, 8, (150, 100))
    view = picture[::-1, :, ::-1]
    matrix = umeyama(points, TEMPLATE)
    np.testing.assert_array_equal(warp(view, matrix, 128), warp(view.copy(), matrix, 128))
    view = picture[:, ::2]
    np.testing.assert_array_equal(warp(view, matrix, 64), warp(view.copy(), matrix, 64))
