"""Pictures put beside each other on contact sheets."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

TILE = 256
"""Side of a face on a contact sheet in pixels: crops are shown twice as large."""
GAP = 16
LINE = 30
"""Height of a line of text in pixels."""
PAPER, INK, PALE = 250, (30, 30, 30), (110, 110, 110)
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.55


@dataclass(frozen=True, eq=False)
class Tile:
    """One face, `uint8 [H, W, 3]`, and the words under it."""

    image: NDArray[np.uint8]
    caption: str


@dataclass(frozen=True, eq=False)
class Row:
    """Faces beside each other under one title."""

    title: str
    tiles: Sequence[Tile]


def contact_sheet(headings: Sequence[str], rows: Sequence[Row]) -> NDArray[np.uint8]:
    """Sheet `uint8 [H, W, 3]` with a heading over each column and a caption under each face.

    Every row has as many tiles as there are `headings`.
    """
    row_height = LINE + TILE + LINE + GAP
    height = GAP + LINE + len(rows) * row_height
    width = GAP + len(headings) * (TILE + GAP)
    sheet = np.full((height, width, 3), PAPER, np.uint8)
    columns = [GAP + number * (TILE + GAP) for number in range(len(headings))]
    for left, heading in zip(columns, headings, strict=True):
        _write(sheet, heading, left, GAP, INK, bold=True)
    for number, row in enumerate(rows):
        top = GAP + LINE + number * row_height
        _write(sheet, row.title, GAP, top, PALE)
        for left, tile in zip(columns, row.tiles, strict=True):
            face = cv2.resize(tile.image, (TILE, TILE), interpolation=cv2.INTER_CUBIC)
            sheet[top + LINE : top + LINE + TILE, left : left + TILE] = face
            _write(sheet, tile.caption, left, top + LINE + TILE, INK)
    return sheet


def mosaic(rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures edge to edge, `uint8 [R * H, N * W, 3]`, from rows of N pictures each, `uint8 [N, H, W, 3]`."""
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


def _write(
    sheet: NDArray[np.uint8], text: str, left: int, top: int, color: tuple[int, int, int], bold: bool = False
) -> None:
    cv2.putText(sheet, text, (left, top + LINE * 2 // 3), FONT, FONT_SCALE, color, 1 + bold, cv2.LINE_AA)
