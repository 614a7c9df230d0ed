"""Masks of crops that reach beyond the picture they were cut from.

`NAME.inside.json` beside `NAME.tar` (or in the folder of crops, as `inside.json`) gives for each file name the
quadrilateral [[x, y] x 4] that is picture: pixel centres at whole numbers of the 144-px training crop, clockwise from
the top left, and it may reach outside; or null where it could not be told.
"""

import json
from collections.abc import Collection
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.config.codec import CROP
from edge_stscq.data.crops import TRAINING_CROP, Faces, load_faces
from edge_stscq.errors import EdgeError

SHRINK = 2
"""Pixels that a quadrilateral is made smaller by on each side: it is known no better."""
MAX_BYTES = 64 * 1024 * 1024


def load_masked_faces(
    source: Path, *, count: int | None = None, names: Collection[str] | None = None
) -> tuple[Faces, NDArray[np.bool_] | None]:
    """Crops as `load_faces` reads them, and what of each is picture: bool [N,128,128], or None where no file says so.

    Crops whose quadrilateral is null are left out, unless they are wanted by name.

    Raises:
        EdgeError: as `load_faces`; or the file is damaged, lacks a crop, or leaves nothing of one.
    """
    faces = load_faces(source, count=count, names=names)
    path = source / "inside.json" if source.is_dir() else source.with_suffix(".inside.json")
    if not path.exists():
        return faces, None
    known = _read(path)
    missing = [name for name in faces.names if name not in known]
    if missing:
        raise EdgeError(f"{path} says nothing of {len(missing)} crops, e.g. {missing[0]}; make it again")
    unknown = [name for name in faces.names if known[name] is None]
    if unknown and names is not None:
        raise EdgeError(f"{path} cannot tell what of {unknown[0]} is picture; leave that face out")
    kept = [index for index, name in enumerate(faces.names) if known[name] is not None]
    if not kept:
        raise EdgeError(f"{path} cannot tell of any crop what is picture; make it again")
    masks = np.stack([_mask(known[faces.names[index]], f"{path}: {faces.names[index]}") for index in kept])
    return Faces(tuple(faces.names[index] for index in kept), faces.images[kept]), masks


def _read(path: Path) -> dict[str, list[list[float]] | None]:
    """Quadrilaterals by file name without folder and suffix."""
    try:
        with path.open("rb") as file:
            table = json.loads(file.read(MAX_BYTES))
        return {PurePosixPath(name).stem: corners for name, corners in table.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise EdgeError(f"{path} is not a JSON object of quadrilaterals by file name ({error})") from None


def _mask(corners: object, where: str) -> NDArray[np.bool_]:
    try:
        points = np.array(corners, np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.shape != (4, 2) or not (np.abs(points) < 1e4).all():
        raise EdgeError(f"{where} needs four corners [x, y], or null; make the file again")
    canvas = np.zeros((TRAINING_CROP, TRAINING_CROP), np.uint8)
    cv2.fillConvexPoly(canvas, np.rint(points * 16).astype(np.int32), 1, shift=4)
    kernel = np.ones((2 * SHRINK + 1, 2 * SHRINK + 1), np.uint8)
    edge = (TRAINING_CROP - CROP) // 2
    inside = cv2.erode(canvas, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1)[edge:-edge, edge:-edge] > 0
    if inside.mean() < 0.1:
        raise EdgeError(f"{where} leaves less than a tenth of the crop; make the file again, or say null")
    return np.asarray(inside)
