"""The header of a picture file says its format and size, and its EXIF data when it was taken; damage says nothing."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge_stscq._images import decode_image, decode_photograph, picture_format, read_image
from edge_stscq._images.exif import captured_ms
from edge_stscq._images.formats import HEAD, picture_size
from edge_stscq._images.reading import MOST_PIXELS
from edge_stscq.errors import EdgeError
from tests.support.installed import need_module
from tests.support.sources.pictures import exif, file_of

FORMATS = {
    "JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "GIF", "BMP": "BMP", "TIFF": "TIFF", "AVIF": "AVIF",
    "JPEG2000": "JPEG 2000", "PPM": "PNM", "HEIF": "HEIC",
}  # fmt: skip


def picture(height: int = 31, width: int = 47) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(params=FORMATS)
def kind(request: pytest.FixtureRequest) -> str:
    """Pillow's name of a format."""
    if request.param == "HEIF":
        need_module("pillow_heif", "pip install 'edge-stscq[heic]'").register_heif_opener()
    return str(request.param)


def test_format_and_size_are_in_the_header(kind: str) -> None:
    data = file_of(picture(), kind)
    name = picture_format(data[:HEAD])
    assert name == FORMATS[kind]
    coded = (64, 64) if name == "HEIC" else (47, 31)  # HEVC codes blocks, of which a part is the picture
    assert picture_size(data, name) == coded
    decoded = decode_image(data)
    assert decoded is not None
    assert decoded.shape == (31, 47, 3)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"progressive": True, "exif": exif(6), "comment": b"\xff\xc0" * 50}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": exif(6)}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"big_tiff": True}),
        ("JPEG2000", {"no_jp2": True}),
    ],
)
def test_size_is_found_in_every_layout_of_a_format(kind: str, options: dict[str, object]) -> None:
    data = file_of(picture(), kind, **options)
    name = picture_format(data)
    assert name is not None
    assert picture_size(data, name) == (47, 31)


@pytest.mark.parametrize("head", [b"P5 47 31 255 ", b"P6\n# made by hand\n47 31\n255\n", b"P4\n47 31\n"])
def test_size_of_a_portable_map(head: bytes) -> None:
    assert picture_size(head + bytes(9), "PNM") == (47, 31)


def test_size_of_an_arbitrary_map() -> None:
    assert picture_size(b"P7\nWIDTH 47\nHEIGHT 31\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n", "PNM") == (47, 31)


@pytest.mark.parametrize(
    "head", [b"", b"\xff", b"RIFF\0\0\0\0AVI ", b"%PDF-1.7", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"]
)
def test_what_is_no_picture_has_no_format(head: bytes) -> None:
    assert picture_format(head) is None


def test_every_header_survives_being_cut_and_overwritten(kind: str) -> None:
    data = file_of(picture(), kind)
    rng = np.random.default_rng(1)
    name = FORMATS[kind]
    for cut in range(0, 120, 3):
        picture_size(data[:cut], name)
    for _ in range(100):
        other = bytearray(data[:2000])
        for at in rng.integers(0, min(len(other), 300), 6):
            other[at] = rng.integers(256)
        picture_size(bytes(other), name)


def png_of_zeros(side: int) -> bytes:
    """A whole PNG of one bit a pixel that says that it is `side` x `side`."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(bytes(1 + side // 8) * 8)
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_small_file_of_a_huge_picture_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_of_zeros(60_000))
    with pytest.raises(EdgeError, match=r"bomb.png: 60000 x 60000 pixels are too many; make it smaller") as refused:
        read_image(tmp_path / "bomb.png")
    assert f"{MOST_PIXELS:,}" in str(refused.value)


@pytest.mark.parametrize(("kind", "at"), [("JPEG", None), ("BMP", 18), ("GIF", 6)])
def test_a_header_that_lies_about_the_size_is_refused(kind: str, at: int | None) -> None:
    data = bytearray(file_of(picture(), kind))
    start = data.index(b"\xff\xc0") + 5 if at is None else at
    data[start : start + 4] = b"\xff\x7f\xff\x7f" if kind != "BMP" else struct.pack("<I", 2**30)
    with pytest.raises(EdgeError, match="are too many"):
        decode_image(bytes(data))


MOMENT = 1_557_126_489_000
"""2019-05-06T07:08:09Z."""


@pytest.mark.parametrize(
    ("texts", "moment"),
    [
        ({"original": "2019:05:06 07:08:09", "offset": "+00:00"}, MOMENT),
        ({"original": "2019:05:06 07:08:09", "offset": "-05:30"}, MOMENT + 5 * 3_600_000 + 1_800_000),
        ({"original": "2019:05:06 07:08:09", "offset": "+00:00", "fraction": "5"}, MOMENT + 500),
        ({"original": "2019:05:06 07:08:09", "offset": "+00:00", "fraction": "nine"}, MOMENT),
        ({"original": "0000:00:00 00:00:00", "offset": "+00:00"}, None),
        ({"original": "    :  :     :  :  "}, None),
        ({"original": "1950:01:01 00:00:00", "offset": "+00:00"}, None),
        ({"changed": "2019:05:06 07:08:09"}, None),
        ({}, None),
    ],
)
def test_time_of_capture(texts: dict[str, str], moment: int | None) -> None:
    assert captured_ms(exif(1, **texts)) == moment


def test_time_without_an_offset_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC-3")  # three hours before UTC, as POSIX writes it
    time.tzset()
    try:
        assert captured_ms(exif(original="2019:05:06 07:08:09")) == MOMENT - 3 * 3_600_000
        assert captured_ms(exif(original="2019:05:06 07:08:09", offset="   :  ")) == MOMENT - 3 * 3_600_000
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [4, 13])
def test_time_in_both_byte_orders_and_in_a_tiff(order: str, kind: int) -> None:
    """A TIFF has its EXIF data in a directory of its own, which Pillow does not write."""
    text = b"2019:05:06 07:08:09\0"
    zone = b"+00:00\0"
    mark = b"II" if order == "<" else b"MM"
    top = struct.pack(order + "HHHIII", 1, 0x8769, kind, 1, 26, 0)
    inner = struct.pack(order + "HHHIIHHIII", 2, 0x9003, 2, len(text), 56, 0x9011, 2, len(zone), 56 + len(text), 0)
    data = mark + struct.pack(order + "HI", 42, 8) + top + inner + text + zone
    assert captured_ms(data) == MOMENT


def test_damaged_exif_says_no_time() -> None:
    data = exif(original="2019:05:06 07:08:09", offset="+00:00")
    for cut in range(len(data)):
        captured_ms(data[:cut])
    rng = np.random.default_rng(0)
    for _ in range(300):
        other = bytearray(data)
        other[rng.integers(len(other))] = rng.integers(256)
        captured_ms(bytes(other))
    assert captured_ms(b"") is None
    assert captured_ms(b"Exif\0\0II*\0" + b"\xff" * 100) is None


def test_a_photograph_is_decoded_with_its_time() -> None:
    taken = decode_photograph(file_of(picture(), "PNG", exif=exif(6, original="2019:05:06 07:08:09", offset="+00:00")))
    assert taken is not None
    assert taken.captured_ms == MOMENT
    np.testing.assert_array_equal(taken.image, np.rot90(picture(), -1))


def test_the_picture_of_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="cannot be read: Is a directory"):
        read_image(tmp_path)


def test_pillow_reads_the_same() -> None:
    """All that is lossless is the same byte for byte, whoever decodes it."""
    for name in ("PNG", "WEBP", "TIFF", "BMP", "PPM"):
        data = file_of(picture(), name, **({"lossless": True} if name == "WEBP" else {}))
        decoded = decode_image(data)
        assert decoded is not None
        np.testing.assert_array_equal(decoded, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
