"""Masks of what is picture of a crop: a quadrilateral in a file beside its archive, or the picture's alpha channel.

Tightly cut photographs do not fill a crop, and whatever an aligner put around them (mirrored skin, black) is no face.
`NAME.inside.json` beside `NAME.tar` or the folder `NAME` holds `{"file name": [[x, y], [x, y], [x, y], [x, y]]}`: the
corners of what is picture, clockwise from the top left, in pixels of the stored picture with pixel centers at whole
numbers. Corners outside of the picture are normal; `null` says that it could not be told, and leaves the crop out.
"""

import json
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.data.crops import MAX_FILE_BYTES, Faces, center, open_crops, read_crops
from edge_stscq.errors import EdgeError

_SHRINK = 2
"""Pixels by which what is picture is made smaller: edges are found to about as much."""
_LEAST = 0.1
"""Share of a crop that must be picture."""
_FAR = 10_000
"""Pixels beyond which a corner is a mistake."""
_SUBPIXEL = 4
"""Bits of a corner's fraction that are drawn."""

Corners = np.ndarray
"""A quadrilateral, float32 [4, 2], x before y."""


def load_masked_faces(
    source: Path, *, count: int | None = None, names: Collection[str] | None = None
) -> tuple[Faces, NDArray[np.bool_] | None]:
    """Crops as `load_faces` reads them, and what of each is picture: bool [N,128,128], or None where no file says so.

    Crops whose quadrilateral is null are left out, unless they are wanted by name.

    Raises:
        EdgeError: as `load_faces`, `read_inside` and `draw_mask`; or the file leaves out a crop that is wanted by name,
            or all of them.
    """
    stored = read_crops(source, count=count, names=names)
    with open_crops(source, MAX_FILE_BYTES) as (files, _):
        known = read_inside(source, files)
    if not known:
        return Faces(stored.names, stored.images), None
    left_out = {file for file, corners in known.items() if corners is None}.intersection(stored.files)
    if left_out and names is not None:
        raise EdgeError(f"the inside-file of {source} leaves out {min(left_out)}, which is wanted; give its corners")
    kept = [index for index, file in enumerate(stored.files) if file not in left_out]
    if not kept:
        raise EdgeError(f"the inside-file of {source} leaves out every crop; give the corners of those that are known")
    masks = [
        draw_mask(stored.sides[index], known.get(stored.files[index]), None, f"{source}: {stored.files[index]}")
        for index in kept
    ]
    faces = Faces(tuple(stored.names[index] for index in kept), stored.images[kept])
    return faces, np.stack([center(mask) for mask in masks]) > 0


def read_inside(source: Path, files: Iterable[str]) -> dict[str, Corners | None]:
    """Corners of each file by the inside-file of an archive or folder; files that it does not name are all picture.

    Args:
        files: names of all crops in `source`; the inside-file may name them without their folder.

    Raises:
        EdgeError: the file can't be read, what it says of a crop is no quadrilateral, or it names a crop that is not
            there.
    """
    path = source.with_name(source.name.removesuffix(".tar") + ".inside.json")
    if not path.exists():
        return {}
    content = _read(path)
    keys = {file: key for file in files for key in (PurePosixPath(file).name, file) if key in content}
    if unseen := content.keys() - set(keys.values()):
        raise EdgeError(f"{path} names {min(unseen)}, which is no crop of {source}; take that entry out")
    return {file: content[key] for file, key in keys.items()}


def _read(path: Path) -> dict[str, Corners | None]:
    """All entries of an inside-file."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EdgeError(f"{path} can't be read as JSON ({error}); write it again, or remove it") from None
    if not isinstance(content, dict):
        raise EdgeError(f"{path} is no object of file names; see docs/data.md")
    return {name: None if given is None else _corners(path, name, given) for name, given in content.items()}


def _corners(path: Path, name: str, given: Any) -> Corners:
    try:
        corners = np.array(given, np.float32)
    except (TypeError, ValueError):
        corners = np.zeros(0, np.float32)
    if corners.shape != (4, 2) or not np.isfinite(corners).all() or np.abs(corners).max() > _FAR:
        raise EdgeError(f"{path}: {name}: expected four corners [x, y] in pixels, or null to leave the crop out")
    following = np.roll(corners, -1, axis=0)
    if float((corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]).sum()) <= 0:  # y points down
        raise EdgeError(f"{path}: {name}: the corners don't go clockwise from the top left; put them in that order")
    return corners


def draw_mask(side: int, corners: Corners | None, alpha: np.ndarray | None, name: str) -> np.ndarray:
    """Mask of what is picture, uint8 [S, S], 0 or 255, shrunk by 2 px where it ends inside the stored picture.

    Args:
        corners: from an inside-file.
        alpha: the picture's own channel, uint8 [S, S]; half opaque or more is picture.
        name: of the crop, for the message.

    Raises:
        EdgeError: less than a tenth of the canonical crop is picture.
    """
    mask = np.full((side, side), 255, np.uint8)
    if corners is not None:
        mask[:] = 0
        cv2.fillPoly(mask, [np.round(corners * (1 << _SUBPIXEL)).astype(np.int32)], (255,), shift=_SUBPIXEL)
    if alpha is not None:
        mask[alpha < 128] = 0
    share = float(center(mask).mean()) / 255
    kernel = np.ones((2 * _SHRINK + 1,) * 2, np.uint8)
    shrunk = cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=(255,))
    if share < _LEAST or not center(shrunk).any():
        what = "its quadrilateral" if alpha is None else "its alpha channel"
        raise EdgeError(f"{name}: {what} leaves {share:.0%} of the crop, less than a tenth; mend it or leave it out")
    return shrunk


def has_alpha(data: bytes) -> bool:
    """True if an encoded PNG or WebP picture says that it has an alpha channel."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return len(data) > 25 and data[25] in (4, 6)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) > 24:
        return bool((data[12:16] == b"VP8X" and data[20] & 0x10) or (data[12:16] == b"VP8L" and data[24] & 0x10))
    return False
