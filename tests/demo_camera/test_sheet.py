"""The sheet shows each face where its heading and caption are."""

import cv2
import numpy as np
import pytest

from demo_camera.sheet import GAP, LINE, PAPER, TILE, Row, Tile, contact_sheet, png


def test_faces_headings_and_captions_are_in_place() -> None:
    colours = [(200, 10, 10), (10, 200, 10), (10, 10, 200), (90, 90, 0)]
    tiles = [Tile(np.full((128, 128, 3), colour, np.uint8), "12 bytes") for colour in colours]
    sheet = contact_sheet(["left", "right"], [Row("one", tiles[:2]), Row("two", tiles[2:])])
    for number, colour in enumerate(colours):
        top = GAP + LINE + number // 2 * (LINE + TILE + LINE + GAP) + LINE
        left = GAP + number % 2 * (TILE + GAP)
        assert (sheet[top : top + TILE, left : left + TILE] == colour).all()
        caption = sheet[top + TILE : top + TILE + LINE, left : left + 80]
        assert caption.min() < 100, "a caption is under the face"
        assert (sheet[top : top + TILE, left + TILE : left + TILE + GAP] == PAPER).all()
    decoded = cv2.imdecode(np.frombuffer(png(sheet), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    np.testing.assert_array_equal(decoded[..., ::-1], sheet)


def test_a_row_of_another_length_is_a_defect() -> None:
    with pytest.raises(ValueError, match="zip"):
        contact_sheet(["left", "right"], [Row("one", [Tile(np.zeros((9, 9, 3), np.uint8), "")])])
