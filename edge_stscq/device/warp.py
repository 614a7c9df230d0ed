"""A picture turned, scaled and moved in whole numbers, so that every processor and every port makes the same bytes.

docs/spec/crop.md is the same in words. Floats end where the similarity is rounded to parts of 2^32; from there on all
is integer. A picture that shrinks is first averaged over exact areas, in the window that is needed alone: an integral
image has the sums, and edges within a pixel divide it in whole parts. What is left, a turn and a shift, reads 4 x 4
pixels with cubic weights (Keys, "Cubic convolution interpolation for digital image processing", 1981, a = -3/4).
"""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FRACTION = 32
"""Bits after the point of the similarity."""
PLACES = 10
"""Bits after the point of a coordinate: weights are known at 1024 places within a pixel."""
UNIT = 14
"""Bits of one in the weights, four of which sum to 2^14."""
KEPT = 7
"""Bits after the point that a sum along a row keeps: with more, that over rows would not fit 32 bits."""
REACH = 1 << 20
"""Pixels of the picture, at most, between its first pixel and the one of the result."""
RANGE = 128
"""A picture grows or shrinks at most so many times."""
Sums = NDArray[Any]
"""uint32 or uint64."""
BAND = 1 << 18
"""Pixels that are summed at a time; few enough to stay in a cache."""


def warp(image: NDArray[np.uint8], matrix: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """The picture `uint8 [size, size, 3]` that a similarity makes of `image`, which is reflected at its borders.

    Args:
        image: `uint8 [H, W, 3]`.
        matrix: `[[a, -b, c], [b, a, d]]`, from places in `image` to places in the result, pixel centers at whole
            numbers.
        size: side of the result in pixels.

    Raises:
        ValueError: `image` would grow or shrink more than 128 times, or to less than a pixel, or lies too far away.
    """
    a, b, c, d = (float(matrix[place]) for place in ((0, 0), (1, 0), (0, 2), (1, 2)))
    reduced = _reduced_size(image.shape, math.sqrt(a * a + b * b))
    x, y = _places(_inverse(a, b, c, d, image.shape, reduced), size)
    columns, rows = x >> PLACES, y >> PLACES
    left, top = int(columns.min()) - 1, int(rows.min()) - 1
    across = _reflect(np.arange(left, int(columns.max()) + 3), reduced[1])
    down = _reflect(np.arange(top, int(rows.max()) + 3), reduced[0])
    (x0, x1), (y0, y1) = ((int(line.min()), int(line.max()) + 1) for line in (across, down))
    window = _reduce(image, reduced, (x0, x1), (y0, y1))[(down - y0)[:, None], across - x0]
    within = (1 << PLACES) - 1
    return _cubic(window, columns - left - 1, rows - top - 1, x & within, y & within).reshape(size, size, 3)


def _reduced_size(shape: tuple[int, ...], scale: float) -> tuple[int, int]:
    """Height and width that a picture is averaged to before it is turned; its own where it grows."""
    height, width = shape[:2]
    if not 1 / RANGE <= scale <= RANGE:
        raise ValueError(f"the picture would be scaled by {scale:.3g}, which is not within 1/{RANGE} to {RANGE}")
    if scale >= 1:
        return height, width
    reduced = round(height * scale), round(width * scale)  # a half to the even number
    if 0 in reduced:
        raise ValueError(f"nothing is left of {width} x {height} pixels that are scaled by {scale:.3g}")
    return reduced


def _inverse(
    a: float, b: float, c: float, d: float, shape: tuple[int, ...], reduced: tuple[int, int]
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Coefficients of column, row and one that give x and y in the reduced picture, in parts of 2^32."""
    square = a * a + b * b
    cosine, sine = a / square, b / square
    left, top = -(cosine * c + sine * d), sine * c - cosine * d
    if not max(abs(left), abs(top)) <= REACH:
        raise ValueError(f"the picture lies more than {REACH:,} pixels away")
    ratio = reduced[1] / shape[1]
    x = cosine * ratio, sine * ratio, (left + 0.5) * ratio - 0.5
    ratio = reduced[0] / shape[0]
    y = -sine * ratio, cosine * ratio, (top + 0.5) * ratio - 0.5
    return _fixed(x), _fixed(y)


def _fixed(values: tuple[float, float, float]) -> tuple[int, int, int]:
    column, row, one = (math.floor(value * 2.0**FRACTION + 0.5) for value in values)
    return column, row, one


def _places(
    fixed: tuple[tuple[int, int, int], tuple[int, int, int]], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """x and y of every pixel, row by row, `int64 [size * size]` in parts of 2^10."""
    count = np.arange(size, dtype=np.int64)
    shift = FRACTION - PLACES
    x, y = (
        ((by_row * count + start + (1 << (shift - 1)))[:, None] + by_column * count).ravel() >> shift
        for by_column, by_row, start in fixed
    )
    return x, y


def _reflect(places: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Places within `length` pixels, whose mirror image goes on beyond either end, the last pixel twice."""
    folded = places % (2 * length)
    return np.minimum(folded, 2 * length - 1 - folded)


def _reduce(
    image: NDArray[np.uint8], reduced: tuple[int, int], x: tuple[int, int], y: tuple[int, int]
) -> NDArray[np.uint8]:
    """Columns `x` and rows `y`, from and to, of the picture averaged to `reduced` (height, width)."""
    height, width = image.shape[:2]
    if reduced == (height, width):
        return image[y[0] : y[1], x[0] : x[1]]
    area = height * width
    # Sums wrap around, and the differences that are boxes are right: a box is at most 255 times the area.
    kind = np.uint32 if 256 * area < 1 << 32 else np.uint64
    rows, further_down = _edges(y, height, reduced[0])
    columns, further_right = _edges(x, width, reduced[1])
    left, right = int(columns[0]), min(int(columns[-1]) + 1, width)
    at = (3 * (columns - left)[:, None] + np.arange(3)).ravel()
    at = np.concatenate([at, at + 3])
    below, beside = further_down[:, None].astype(kind), further_right.repeat(3).astype(kind)
    half_up = (height, width) == (2 * reduced[0], 2 * reduced[1])
    count = max(1, BAND * reduced[0] // (height * (right - left)))
    bands = []
    for first in range(0, y[1] - y[0], count):
        edges = rows[first : first + count + 1]
        top, bottom = int(edges[0]), min(int(edges[-1]) + 1, height)
        sums = cv2.integral(np.ascontiguousarray(image[top:bottom, left:right]), sdepth=cv2.CV_32S)
        lines = np.concatenate([edges, edges + 1]) - top
        # Beyond the last pixel the part is 0: whatever is taken there does not count.
        corners = sums.reshape(len(sums), -1).take(lines, 0, mode="clip").astype(kind, copy=False)
        ends = _between(corners, below[first : first + count + 1], kind(reduced[0]), axis=0)
        ends = _between((ends[1:] - ends[:-1]).take(at, 1, mode="clip"), beside, kind(reduced[1]), axis=1)
        bands.append(_divided(ends[:, 3:] - ends[:, :-3], kind(area), half_up=half_up))
    return np.concatenate(bands).astype(np.uint8).reshape(y[1] - y[0], x[1] - x[0], 3)


def _edges(span: tuple[int, int], full: int, reduced: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges of the reduced pixels of a span, from the first to the last: whole pixels, and parts of `reduced`."""
    return np.divmod(np.arange(span[0], span[1] + 1, dtype=np.int64) * full, reduced)


def _between(corners: Sums, part: Sums, unit: np.unsignedinteger, *, axis: int) -> Sums:
    """Sums up to edges that lie `part / unit` within a pixel, times `unit`, from those before and those after it."""
    before, after = np.split(corners, 2, axis)
    found: Sums = before * unit + (after - before) * part
    return found


def _divided(boxes: Sums, area: np.unsignedinteger, *, half_up: bool) -> Sums:
    """Quotients to the nearest number; a half goes up, or to the even number.

    Networks were trained on crops of OpenCV, which takes a half up only where 2 x 2 pixels become one.
    """
    raised = boxes + area // 2
    found: Sums = raised // area
    if area % 2 == 0 and not half_up:
        found -= found & (found * area == raised)
    return found


def _weights() -> NDArray[np.int32]:
    """Weights `[4, 1024]` of the pixels before, at, after and beyond a place, in parts of 2^14; four sum to it."""
    one = 1 << PLACES
    k = np.arange(one, dtype=np.int64)
    cut = 3 * PLACES + 2 - UNIT
    half = 1 << (cut - 1)
    before, beyond = ((half - 3 * near * far * far) >> cut for near, far in ((k, one - k), (one - k, k)))
    at = (half + (5 * k - 9 * one) * k * k + 4 * one**3) >> cut
    return np.stack([before, at, (1 << UNIT) - before - at - beyond, beyond]).astype(np.int32)


WEIGHTS = _weights()


def _cubic(
    window: NDArray[np.uint8],
    columns: NDArray[np.int64],
    rows: NDArray[np.int64],
    x: NDArray[np.int64],
    y: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """`uint8 [N, 3]` from the 4 x 4 pixels that begin at `columns` and `rows`, read at the places `x` and `y`."""
    width = window.shape[1]
    start = rows * width + columns
    across, down = WEIGHTS.take(x, axis=1), WEIGHTS.take(y, axis=1)
    cut = 2 * UNIT - (UNIT - KEPT)
    found = np.empty((len(start), 3), np.uint8)
    for channel in range(3):
        plane = np.ascontiguousarray(window[..., channel], np.int32).ravel()
        total = np.full(len(start), 1 << (cut - 1), np.int32)
        for row in range(4):
            line = np.full(len(start), 1 << (UNIT - KEPT - 1), np.int32)
            for column in range(4):
                line += plane[row * width + column :].take(start) * across[column]
            total += (line >> (UNIT - KEPT)) * down[row]
        found[:, channel] = np.clip(total >> cut, 0, 255)
    return found
