"""From five points on a face to the canonical crop that every encoder of this project sees.

The crop is the ArcFace template at its own 112-pixel scale with a margin of 8 pixels on each side: 128 x 128 RGB. The
points are brought onto the template by the similarity (rotation, one scale, shift; no mirror, no shear) of least
squared error, Umeyama 1991. Encoders are trained on exactly this geometry, so solver, interpolation and border are part
of the contract and are named in every bundle's manifest.

Interpolation. `cv2.warpAffine` reads at most a few source pixels for each target pixel whatever its flags say
(`INTER_AREA` silently means bilinear there), so a large face would alias. A face that shrinks is therefore first
resized by area averaging to the scale of the crop, and the warp that follows only rotates and shifts; a face that
grows is warped directly. The warp itself is always cubic.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.bundle.manifest import CropSpec
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

    Equations 40 to 42 of Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    1991, in the plane. A mirrored source is met by the best proper rotation, never by a mirror.

    Raises:
        ValueError: the points of `source` coincide, so that no scale exists.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    source_mean, target_mean = source.mean(0), target.mean(0)
    source_centered, target_centered = source - source_mean, target - target_mean
    variance = (source_centered**2).sum() / len(source)
    if not variance > 0:
        raise ValueError("the points coincide")
    left, singular, right = np.linalg.svd(target_centered.T @ source_centered / len(source))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    linear = (left * signs) @ right * ((singular * signs).sum() / variance)
    return np.column_stack([linear, target_mean - linear @ source_mean])


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
    """
    matrix = umeyama(points, TEMPLATE)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 1:
        height, width = image.shape[:2]
        small = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        # Pixel centres sit at whole coordinates: small = (large + 0.5) * ratio - 0.5. Undo that before the similarity.
        stretch = np.array([width / small[0], height / small[1]])
        matrix = np.column_stack([matrix[:, :2] * stretch, matrix[:, 2] + matrix[:, :2] @ (0.5 * stretch - 0.5)])
    return cv2.warpAffine(  # type: ignore[return-value]
        image, matrix, (SPEC.size, SPEC.size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
