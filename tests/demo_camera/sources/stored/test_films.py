"""A film is read whole, upright, at its own times; what is damaged in it is gone past and said."""

import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from demo_camera.sources import SourceOptions, open_source
from demo_camera.sources.stored.containers import is_video
from edge_stscq.errors import EdgeError
from edge_stscq.stream import Clock
from tests.support.sources.pictures import Lines, film, rewritten, same, turned

Rgb = NDArray[np.uint8]
MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
"""a, b, c, d of a display matrix for each of EXIF's orientations: where the right and the lower side are shown."""
NEW_YEAR_MS = 1_577_934_245_000
"""2020-01-02T03:04:05Z."""


def noisy(count: int, seed: int = 0) -> list[Rgb]:
    """Different pictures that do not code to nothing."""
    rng = np.random.default_rng(seed)
    return [cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (64, 48)).astype(np.uint8) for _ in range(count)]


def damaged(path: Path, start: float, length: int) -> Path:
    data = bytearray(path.read_bytes())
    at = int(start * len(data))
    data[at : at + length] = np.random.default_rng(1).integers(0, 256, length, np.uint8).tobytes()
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("orientation", MATRICES)
def test_the_display_matrix_turns_a_film_once(orientation: int, tmp_path: Path, corners: Rgb) -> None:
    a, b, c, d = (value << 16 for value in MATRICES[orientation])
    path = rewritten(film(tmp_path / "a.mp4", [corners] * 2), b"tkhd", 40, struct.pack(">5i", a, b, 0, c, d))
    pictures = list(open_source(str(path)).pictures())
    assert len(pictures) == 2
    assert all(same(picture.image, turned(corners, orientation), 20) for picture in pictures)


def test_opencv_agrees_about_the_turns_that_it_knows(tmp_path: Path, corners: Rgb) -> None:
    for orientation in (1, 3, 6, 8):
        a, b, c, d = (value << 16 for value in MATRICES[orientation])
        path = rewritten(film(tmp_path / "a.mp4", [corners]), b"tkhd", 40, struct.pack(">5i", a, b, 0, c, d))
        there, image = cv2.VideoCapture(str(path)).read()
        assert there
        assert same(np.asarray(image[..., ::-1], np.uint8), turned(corners, orientation), 20)


@pytest.mark.parametrize("since", [1904, 1970])
def test_a_frame_has_the_time_of_the_film_and_its_place_in_it(since: int, tmp_path: Path, corners: Rgb) -> None:
    made = NEW_YEAR_MS // 1000 + (2_082_844_800 if since == 1904 else 0)
    path = rewritten(film(tmp_path / "a.mp4", [corners] * 3), b"mvhd", 4, struct.pack(">I", made))
    pictures = list(open_source(str(path)).pictures())
    assert [picture.captured_ms for picture in pictures] == [NEW_YEAR_MS + step for step in (0, 100, 200)]
    assert {picture.clock for picture in pictures} == {Clock.UNSYNCHRONIZED}
    assert [picture.at for picture in pictures] == pytest.approx([0, 0.1, 0.2])


def test_matroska_says_its_time_in_an_element(tmp_path: Path, corners: Rgb) -> None:
    path = film(tmp_path / "a.mkv", [corners] * 2, "MJPG")
    (picture, _) = open_source(str(path)).pictures()
    assert picture.captured_ms is None
    data = path.read_bytes()
    at = data.index(b"\x2a\xd7\xb1\x83\x0f\x42\x40")  # time stamps of 1 ms, which every film has: seven bytes
    date = b"\x44\x61\x88" + struct.pack(">q", (NEW_YEAR_MS - 978_307_200_000) * 1_000_000)
    information = data.rindex(b"\x15\x49\xa9\x66", 0, at)
    width = 8 if data[information + 4] == 1 else 1
    size = (
        int.from_bytes(data[information + 5 : information + 4 + width], "big")
        if width == 8
        else data[information + 4] & 127
    )
    head = data[:information] + b"\x15\x49\xa9\x66" + bytes([0x40, size + len(date)])
    body = data[information + 4 + width : information + 4 + width + size]
    path.write_bytes(head + date + body + data[information + 4 + width + size :])
    from demo_camera.sources.stored.containers import made_ms

    with path.open("rb") as file:
        assert made_ms(file) == NEW_YEAR_MS


def test_a_film_that_says_no_time_has_none(tmp_path: Path, corners: Rgb) -> None:
    path = rewritten(film(tmp_path / "a.mp4", [corners]), b"mvhd", 4, bytes(4))
    (picture,) = open_source(str(path)).pictures()
    assert (picture.captured_ms, picture.clock, picture.at) == (None, None, 0)


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv", ""])
@pytest.mark.parametrize("start", [0.3, 0.6])
def test_a_film_damaged_in_the_middle_is_read_past_it(suffix: str, start: float, tmp_path: Path, lines: Lines) -> None:
    """Motion JPEG: each picture stands for itself, so that no more are lost than were overwritten."""
    whole = film(tmp_path / f"a{suffix or '.avi'}", noisy(60), "MJPG")
    path = tmp_path / f"b{suffix}"
    shutil.copy(whole, path)
    damaged(path, start, whole.stat().st_size // 20)
    source = open_source(str(path), reporter=lines)
    came = len(list(source.pictures()))
    assert 54 <= came < 60
    verb = "is" if source.counters.damaged else "may be"  # a container that finds its way back loses pictures silently
    assert lines.said == [f"b{suffix} {verb} damaged: {came} pictures of about 60 were read"]


def test_a_film_that_is_cut_short_says_so(tmp_path: Path, lines: Lines) -> None:
    path = film(tmp_path / "a.avi", noisy(40), "MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    came = len(list(open_source(str(path), reporter=lines).pictures()))
    assert 10 < came < 30
    (line,) = lines.said
    assert f"{came} pictures of about" in line


def test_a_whole_film_says_nothing(tmp_path: Path, lines: Lines) -> None:
    source = open_source(str(film(tmp_path / "a.mp4", noisy(30))), reporter=lines)
    assert len(list(source.pictures())) == 30
    assert lines.said == []
    assert source.counters.by_name() == {"pictures": 30, "damaged": 0, "skipped": 0, "dropped": 0, "reconnects": 0}


@pytest.mark.parametrize("kept", [40, 2000])
def test_a_film_without_one_picture_is_refused(kept: int, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", noisy(30))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(EdgeError, match="^a.mp4 is damaged or neither a picture nor a video; give JPEG"):
        list(open_source(str(path)).pictures())


@pytest.mark.parametrize(
    "name", ["2026-01-02T12:30:05.mp4", "a%d.mp4", "a%03d.mp4", "-", "http:x", "a|b", "concat:a", "ü 人.mp4"]
)
def test_a_name_is_no_protocol_and_no_pattern(name: str, tmp_path: Path, corners: Rgb) -> None:
    film(tmp_path / "whole.mp4", [corners] * 3).rename(tmp_path / name)
    pictures = list(open_source(str(tmp_path / name)).pictures())
    assert [picture.name for picture in pictures] == [f"{name} picture {number}" for number in range(3)]


def test_the_rate_is_of_the_films_own_time(tmp_path: Path) -> None:
    source = open_source(str(film(tmp_path / "a.mp4", noisy(60), rate=30)), SourceOptions(max_rate=5))
    pictures = list(source.pictures())
    assert len(pictures) == 10
    assert np.diff([picture.at or 0 for picture in pictures]) == pytest.approx(np.full(9, 0.2), abs=0.04)
    assert source.counters.dropped == 50


def test_closing_ends_a_film(tmp_path: Path) -> None:
    source = open_source(str(film(tmp_path / "a.mp4", noisy(30))))
    for _ in source.pictures():
        source.close()
    assert source.counters.pictures == 1


@pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile a.mp4\n", "#EXTM3U\n#EXT-X-VERSION:3\na.mp4\n", "v=0\n"])
def test_a_playlist_is_not_followed(text: str, tmp_path: Path, corners: Rgb) -> None:
    film(tmp_path / "a.mp4", [corners])
    (tmp_path / "list.mp4").write_text(text)
    with pytest.raises(EdgeError, match="neither a picture nor a video"):
        list(open_source(str(tmp_path / "list.mp4")).pictures())


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".mov", ".ts"])
def test_containers_are_told_by_their_first_bytes(suffix: str, tmp_path: Path, corners: Rgb) -> None:
    codec = "mp4v" if suffix in (".mp4", ".mov", ".ts") else "MJPG"
    assert is_video(film(tmp_path / f"a{suffix}", [corners] * 3, codec).read_bytes()[:256])
    assert not is_video(b"")
    assert not is_video(b"G")
    assert not is_video(bytes(256))
