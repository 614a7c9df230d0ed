"""A file is read by what it contains, upright, with its own time; a damaged one is refused in a line."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from demo_camera.sources import Picture, SourceOptions, open_source
from edge_stscq.errors import EdgeError, MissingExtraError
from edge_stscq.stream import Clock
from tests.support.installed import need_module
from tests.support.sources.pictures import exif, file_of, film, same, turned

Rgb = NDArray[np.uint8]
MOMENT = 1_557_119_289_250
"""2019-05-06 07:08:09.25 at two hours before UTC."""
TAKEN = {"original": "2019:05:06 07:08:09", "offset": "+02:00", "fraction": "25", "changed": "2021:01:01 00:00:00"}


def only(path: Path, options: SourceOptions = SourceOptions()) -> Picture:  # noqa: B008
    (picture,) = open_source(str(path), options).pictures()
    return picture


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_every_kind_is_turned_once_and_by_one_rule(kind: str, orientation: int, tmp_path: Path, corners: Rgb) -> None:
    if kind == "HEIF":
        need_module("pillow_heif", "pip install 'edge-stscq[heic]'").register_heif_opener()
    path = tmp_path / "held"
    path.write_bytes(file_of(corners, kind, exif=exif(orientation)))
    assert same(only(path).image, turned(corners, orientation))


@pytest.mark.parametrize("name", ["a.jpg", "a.jfif", "a", "a.png", "a.mp4", "a.heic"])
def test_a_name_changes_nothing(name: str, tmp_path: Path, corners: Rgb) -> None:
    data = file_of(corners, "JPEG", exif=exif(3))
    (tmp_path / "b.jpg").write_bytes(data)
    (tmp_path / name).write_bytes(data)
    picture = only(tmp_path / name)
    assert picture.name == name
    np.testing.assert_array_equal(picture.image, only(tmp_path / "b.jpg").image)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
def test_the_time_of_a_photograph_is_its_own(kind: str, tmp_path: Path, corners: Rgb) -> None:
    if kind == "HEIF":
        need_module("pillow_heif", "pip install 'edge-stscq[heic]'").register_heif_opener()
    path = tmp_path / "old"
    path.write_bytes(file_of(corners, kind, exif=exif(6, **TAKEN)))
    picture = only(path)
    assert (picture.captured_ms, picture.clock, picture.at) == (MOMENT, Clock.UNSYNCHRONIZED, None)


def test_a_photograph_that_says_no_time_has_none(tmp_path: Path, corners: Rgb) -> None:
    path = tmp_path / "old.jpg"
    path.write_bytes(file_of(corners, exif=exif(changed="2021:01:01 00:00:00")))
    picture = only(path)
    assert (picture.captured_ms, picture.clock) == (None, None)


def test_heic_in_tiles_is_one_picture(tmp_path: Path) -> None:
    heif = need_module("pillow_heif", "pip install 'edge-stscq[heic]'")
    heif.register_heif_opener()
    wide = np.zeros((150, 300, 3), np.uint8)
    wide[80:, 200:] = 220
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(file_of(wide, "HEIF", tile_size=128))
    assert b"grid" in path.read_bytes()[:1000]
    assert same(only(path).image, wide)


def test_heic_without_its_extra_is_refused_by_name(
    tmp_path: Path, corners: Rgb, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_module("pillow_heif", "pip install 'edge-stscq[heic]'").register_heif_opener()
    path = tmp_path / "a.jpg"
    path.write_bytes(file_of(corners, "HEIF"))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtraError, match=r"^a.jpg: HEIC is not read; run: pip install 'edge-stscq\[heic\]'$"):
        only(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "GIF", "BMP", "JPEG2000", "PPM"])
@pytest.mark.parametrize("lost", [1, 2, 12, 0.1, 0.5])
def test_a_picture_that_is_cut_short_is_refused(kind: str, lost: float, tmp_path: Path, corners: Rgb) -> None:
    if kind == "HEIF":
        need_module("pillow_heif", "pip install 'edge-stscq[heic]'").register_heif_opener()
    noise = np.random.default_rng(0).integers(0, 40, corners.shape, np.uint8)
    data = file_of(corners // 2 + noise, kind)
    path = tmp_path / "cut"
    path.write_bytes(data[: -int(lost if lost >= 1 else lost * len(data))])
    with pytest.raises(EdgeError, match="^cut is damaged or not a picture; give a whole JPEG, PNG or WebP file$"):
        only(path)


def test_every_depth_and_palette_becomes_rgb(tmp_path: Path, corners: Rgb) -> None:
    from PIL import Image

    picture = Image.fromarray(corners)
    gray = np.asarray(picture.convert("L"))
    files: dict[str, tuple[Image.Image, Rgb, dict[str, Any]]] = {
        "cmyk.jpg": (picture.convert("CMYK"), corners, {}),
        "progressive.jpg": (picture, corners, {"progressive": True}),
        "palette.png": (picture.convert("P", palette=Image.Palette.ADAPTIVE), corners, {}),
        "palette.gif": (picture, corners, {}),
        "gray-alpha.png": (picture.convert("LA"), gray, {}),
        "alpha.webp": (picture.convert("RGBA"), corners, {}),
        "bit.png": (picture.convert("1", dither=Image.Dither.NONE), (gray > 127) * np.uint8(255), {}),
        "bit.tif": (picture.convert("1", dither=Image.Dither.NONE), (gray > 127) * np.uint8(255), {}),
        "deep.png": (Image.fromarray(gray.astype(np.uint16) * 257), gray, {}),
    }
    for name, (written, wanted, options) in files.items():
        written.save(tmp_path / name, **options)
        wanted = wanted if wanted.ndim == 3 else np.stack([wanted] * 3, -1)
        assert same(only(tmp_path / name).image, wanted), name


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_picture_is_read(kind: str, tmp_path: Path, corners: Rgb) -> None:
    from PIL import Image

    path = tmp_path / "moving"
    path.write_bytes(file_of(corners, kind, save_all=True, append_images=[Image.fromarray(corners[::-1])]))
    assert same(only(path).image, corners)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20000, 3), (3, 20000)])
def test_odd_sizes_are_read(width: int, height: int, tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(file_of(np.full((height, width, 3), 9, np.uint8), "PNG"))
    assert only(path).image.shape == (height, width, 3)


def test_a_name_that_is_not_utf8_is_read_and_printed(tmp_path: Path, corners: Rgb) -> None:
    place = os.fsencode(tmp_path) + b"/\xff\n\x80"
    for suffix in (b".jpg", b".mp4"):
        data = file_of(corners) if suffix == b".jpg" else film(tmp_path / "a.mp4", [corners] * 2).read_bytes()
        path = Path(os.fsdecode(place + suffix))
        path.write_bytes(data)
        for picture in open_source(str(path)).pictures():
            assert re.match(r"\?\?\?\.(jpg|mp4 picture [01])$", picture.name)
            assert same(picture.image, corners, 20)
    path.write_bytes(b"no film" * 100)
    with pytest.raises(EdgeError) as refused:
        next(open_source(str(path)).pictures())
    assert str(refused.value).isprintable()
    str(refused.value).encode()


def test_what_is_read_is_turned_and_cut(tmp_path: Path, corners: Rgb) -> None:
    from demo_camera.sources import Region

    path = tmp_path / "a.png"
    path.write_bytes(file_of(corners, "PNG", exif=exif(3)))
    options = SourceOptions(rotate=90, region=Region.parse("0,50%,50%,32"))
    upright = corners[::-1, ::-1]
    np.testing.assert_array_equal(only(path, options).image, np.rot90(upright, -1)[32:64, :24])
    with pytest.raises(EdgeError, match=r"region 64,0,9,9 lies outside of a picture of 64 x 48"):
        only(path, SourceOptions(region=Region.parse("64,0,9,9")))


def test_a_link_is_followed(tmp_path: Path, corners: Rgb) -> None:
    (tmp_path / "a.png").write_bytes(file_of(corners, "PNG"))
    (tmp_path / "link").symlink_to("a.png")
    np.testing.assert_array_equal(only(tmp_path / "link").image, corners)


def test_a_file_that_is_gone_says_so(tmp_path: Path, corners: Rgb) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(file_of(corners, "PNG"))
    source = open_source(str(path))
    path.unlink()
    with pytest.raises(EdgeError, match="a.png cannot be read: No such file"):
        list(source.pictures())
    assert cv2.utils.logging.getLogLevel() != cv2.utils.logging.LOG_LEVEL_SILENT
