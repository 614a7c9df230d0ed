"""From five points on a face to the canonical crop that every encoder of this project sees.

The crop is the ArcFace template at its own 112-pixel scale with a margin of 8 pixels on each side: 128 x 128 RGB. The
points are brought onto the template by the similarity (rotation, one scale, shift; no mirror, no shear) of least
squared error, Umeyama 1991. Encoders are trained on exactly this geometry, so solver, interpolation and border are part
of the contract and are named in every bundle's manifest; docs/spec/crop.md has them to the bit, and `warp.py` is their
arithmetic.

A face that shrinks is first averaged over areas to the scale of the crop, since a few pixels for each of the result
would alias; then it is turned and moved. A face that grows is warped directly. The warp itself is always cubic.
"""

import math
from collections.abc import Iterable
from functools import reduce
from operator import add

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.bundle.manifest import CropSpec
from edge_stscq.device.warp import warp
from edge_stscq.errors import EdgeError

SPEC = CropSpec()
"""Crop that this module makes, in the words of the manifest."""
TEMPLATE = np.array(SPEC.template, np.float64) + SPEC.margin
"""Where the five points belong in the crop, `[5, 2]`: eye, eye, nose, mouth corner, mouth corner, each pair left to
right as seen in the picture."""


def check(spec: CropSpec) -> None:
    """Make sure that the crops made here are those that a bundle's encoder was trained on.

    Raises:
        EdgeError: the bundle's manifest asks for other crops.
    """
    if spec != SPEC:
        raise EdgeError("the bundle asks for crops that this camera does not make; export it with this version")


def umeyama(source: NDArray[np.floating], target: NDArray[np.floating]) -> NDArray[np.float64]:
    """The similarity `[2, 3]` that maps `source [N, 2]` onto `target [N, 2]` with least squared error.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991, in the plane,
    where no singular values are needed. A mirrored source is met by the best proper rotation, never by a mirror. Plain
    float64 in a fixed order, so that every processor finds the same bits.

    Raises:
        ValueError: the points of `source` coincide, so that no scale exists, or are not finite.
    """
    pairs = [*zip(*np.asarray(source, np.float64).T.tolist(), *np.asarray(target, np.float64).T.tolist(), strict=True)]
    mean_x, mean_y, mean_u, mean_v = (_sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    centered = [(x - mean_x, y - mean_y, u - mean_u, v - mean_v) for x, y, u, v in pairs]
    square = _sum(x * x + y * y for x, y, _, _ in centered)
    if not math.isfinite(square):
        raise ValueError("the points are not finite")
    if not square > 0:
        raise ValueError("the points coincide")
    a = _sum(x * u + y * v for x, y, u, v in centered) / square
    b = _sum(x * v - y * u for x, y, u, v in centered) / square
    return np.array([[a, -b, mean_u - (a * mean_x - b * mean_y)], [b, a, mean_v - (b * mean_x + a * mean_y)]])


def _sum(values: Iterable[float]) -> float:
    """Sum from the first value to the last, without the compensation that `sum` has from Python 3.12 on."""
    return reduce(add, values)


def picture_corners(shape: tuple[int, ...], points: NDArray[np.floating]) -> NDArray[np.float64]:
    """The corners `[4, 2]` of a photograph in its crop, clockwise from the top left, pixel centres at whole numbers.

    They lie outside of the crop where the photograph does. In this form a training set says what of a crop is picture.

    Args:
        shape: of the photograph, `(H, W)` or `(H, W, 3)`.
        points: `[5, 2]`, as for `crop_face`.
    """
    height, width = shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5
    matrix = umeyama(points, TEMPLATE)
    return corners @ matrix[:, :2].T + matrix[:, 2]


def crop_mask(shape: tuple[int, ...], points: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Mask of what is photograph and not reflection in a canonical crop, `uint8 [128, 128]`, 255 or 0.

    Args:
        shape: of the photograph, `(H, W)` or `(H, W, 3)`.
        points: `[5, 2]`, as for `crop_face`.
    """
    mask = np.zeros((SPEC.size, SPEC.size), np.uint8)
    corners = np.round(picture_corners(shape, points) * 16).astype(np.int32)
    cv2.fillPoly(mask, [corners], (255,), shift=4)
    return mask


def crop_face(image: NDArray[np.uint8], points: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The canonical crop `uint8 [128, 128, 3]` of the face with the five `points [5, 2]` (x, y in pixels of `image`).

    `image` is `uint8 [H, W, 3]`; the colour order is kept. Where the crop reaches over the border, the picture is
    reflected.

    Raises:
        ValueError: the points coincide, are not finite, or lie so that the picture would grow or shrink more than 128
            times or is more than 2^20 pixels away.
    """
    return warp(image, umeyama(points, TEMPLATE), SPEC.size)
