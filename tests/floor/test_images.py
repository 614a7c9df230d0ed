"""Pictures come back as they were written, and a sheet shows each face where its heading and caption are."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_stscq._images import (
    GAP,
    LINE,
    PAPER,
    TILE,
    Row,
    Tile,
    contact_sheet,
    decode_image,
    encode_image,
    mosaic,
    read_image,
)
from edge_stscq.errors import EdgeError

NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def test_encode_image_png_is_lossless_rgb(tmp_path: Path) -> None:
    data = encode_image(NOISE)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    np.testing.assert_array_equal(image[..., ::-1], NOISE)
    (tmp_path / "a.png").write_bytes(data)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), NOISE)


def test_encode_image_names_a_format_that_is_not_written() -> None:
    with pytest.raises(EdgeError, match=r"'.xyz'; use .png"):
        encode_image(NOISE, ".xyz")


@pytest.mark.parametrize("data", [b"", b"no picture", encode_image(NOISE)[:60]])
def test_decode_image_damaged_is_none(data: bytes) -> None:
    assert decode_image(data) is None


def test_read_image_names_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="cannot be read: No such file"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(EdgeError, match="damaged or not a picture"):
        read_image(tmp_path / "text.png")


def test_mosaic_puts_pictures_edge_to_edge() -> None:
    rows = [np.stack([NOISE, NOISE + 1]), np.stack([NOISE + 2, NOISE + 3])]
    whole = mosaic(rows)
    assert whole.shape == (40, 60, 3)
    np.testing.assert_array_equal(whole[20:, 30:], NOISE + 3)


def test_faces_headings_and_captions_are_in_place() -> None:
    colors = [(200, 10, 10), (10, 200, 10), (10, 10, 200), (90, 90, 0)]
    tiles = [Tile(np.full((128, 128, 3), color, np.uint8), "12 bytes") for color in colors]
    sheet = contact_sheet(["left", "right"], [Row("one", tiles[:2]), Row("two", tiles[2:])])
    for number, color in enumerate(colors):
        top = GAP + LINE + number // 2 * (LINE + TILE + LINE + GAP) + LINE
        left = GAP + number % 2 * (TILE + GAP)
        assert (sheet[top : top + TILE, left : left + TILE] == color).all()
        caption = sheet[top + TILE : top + TILE + LINE, left : left + 80]
        assert caption.min() < 100, "a caption is under the face"
        assert (sheet[top : top + TILE, left + TILE : left + TILE + GAP] == PAPER).all()


def test_a_row_of_another_length_is_a_defect() -> None:
    with pytest.raises(ValueError, match="zip"):
        contact_sheet(["left", "right"], [Row("one", [Tile(np.zeros((9, 9, 3), np.uint8), "")])])
