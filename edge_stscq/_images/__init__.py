"""Pictures: read from files of any name by their content, written as PNG, and put beside each other on contact sheets.

Pictures are `uint8 [H, W, 3]` in RGB throughout.
"""

from edge_stscq._images.formats import HEAD, picture_format
from edge_stscq._images.reading import (
    Photograph,
    decode_image,
    decode_photograph,
    load_photograph,
    opencv_silenced,
    read_image,
)
from edge_stscq._images.sheets import GAP, LINE, PAPER, TILE, Row, Tile, contact_sheet, mosaic
from edge_stscq._images.writing import encode_image

__all__ = [
    "GAP",
    "HEAD",
    "LINE",
    "PAPER",
    "TILE",
    "Photograph",
    "Row",
    "Tile",
    "contact_sheet",
    "decode_image",
    "decode_photograph",
    "encode_image",
    "load_photograph",
    "mosaic",
    "opencv_silenced",
    "picture_format",
    "read_image",
]
