"""Standard input and named pipes: one picture, or many; decided by what comes, and never waited for without end."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from demo_camera.sources import Source, SourceOptions, open_source
from demo_camera.sources.jpeg_split import JpegSplitter
from edge_stscq.errors import EdgeError
from edge_stscq.stream import Clock
from tests.support.sources.pictures import Lines, exif, file_of, film, same

Rgb = NDArray[np.uint8]


@contextmanager
def piped(pipe: Path, *parts: bytes, keep: bool = False) -> Iterator[None]:
    """Write the parts to a named pipe; with `keep` it stays open until the block ends."""
    over = threading.Event()

    def write() -> None:
        with pipe.open("wb", buffering=0) as file:
            for part in parts:
                file.write(part)
            if keep:
                over.wait()

    os.mkfifo(pipe)
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    yield
    over.set()
    writer.join()


def read(pipe: Path, options: SourceOptions = SourceOptions(), lines: Lines | None = None) -> Source:  # noqa: B008
    return open_source(str(pipe), options, lines or Lines())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_one_picture_is_a_photograph(kind: str, tmp_path: Path, corners: Rgb) -> None:
    data = file_of(corners, kind, exif=exif(3, original="2019:05:06 07:08:09", offset="+00:00"))
    with piped(tmp_path / "pipe", data[:40], data[40:]):
        (picture,) = read(tmp_path / "pipe").pictures()
    assert same(picture.image, corners[::-1, ::-1])
    assert picture.at is None
    if kind != "TIFF":  # Pillow writes no times into those
        assert (picture.captured_ms, picture.clock) == (1_557_126_489_000, Clock.UNSYNCHRONIZED)


@pytest.mark.parametrize("between", [b"", b"\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n"])
@pytest.mark.parametrize("step", [7, 100_000])
def test_jpegs_one_after_the_other_are_a_camera(between: bytes, step: int, tmp_path: Path, corners: Rgb) -> None:
    images = [corners, corners[::-1], corners[:, ::-1]]
    data = b"".join(between + file_of(image) for image in images)
    with piped(tmp_path / "pipe", *(data[at : at + step] for at in range(0, len(data), step))):
        pictures = list(read(tmp_path / "pipe").pictures())
    assert len(pictures) == 3
    assert all(same(picture.image, image) for picture, image in zip(pictures, images, strict=True))
    assert all(picture.captured_ms and picture.at for picture in pictures)
    assert pictures[2].name == f"{tmp_path}/pipe picture 2"


def test_a_picture_comes_before_the_next_is_complete(tmp_path: Path, corners: Rgb) -> None:
    data = file_of(corners)
    with piped(tmp_path / "pipe", data, data, data[:30], keep=True):
        source = read(tmp_path / "pipe")
        pictures = source.pictures()
        assert [next(pictures).name[-1], next(pictures).name[-1]] == ["0", "1"]
        threading.Timer(0.1, source.close).start()
        assert list(pictures) == []


def test_a_damaged_picture_among_others_is_counted(tmp_path: Path, corners: Rgb, lines: Lines) -> None:
    data = file_of(corners)
    with piped(tmp_path / "pipe", data, data[:-40], data, b"junk" * 100, data, data[:-2]):
        source = read(tmp_path / "pipe", lines=lines)
        assert len(list(source.pictures())) == 3
    assert source.counters.damaged == 2
    assert lines.said == [f"{tmp_path}/pipe is damaged: 2 pictures could not be read"]


@pytest.mark.parametrize("data", [b"", b"no picture" * 1000, b"\xff\xd8\xff" * 9, b"\x89PNG\r\n\x1a\n" + bytes(99)])
def test_what_is_no_picture_is_refused(data: bytes, tmp_path: Path) -> None:
    with piped(tmp_path / "pipe", data), pytest.raises(EdgeError, match="pipe is damaged"):
        list(read(tmp_path / "pipe").pictures())


def test_a_film_is_refused_by_name(tmp_path: Path, corners: Rgb) -> None:
    data = film(tmp_path / "a.mp4", [corners]).read_bytes()
    with piped(tmp_path / "pipe", data), pytest.raises(EdgeError, match="gives a video; give its path, or JPEG"):
        list(read(tmp_path / "pipe").pictures())


@pytest.mark.parametrize("sent", [b"", b"\xff\xd8\xff\xe0"])
def test_a_pipe_that_stalls_is_noticed(sent: bytes, tmp_path: Path) -> None:
    with (
        piped(tmp_path / "pipe", sent, keep=True),
        pytest.raises(EdgeError, match=r"pipe gave nothing for 0.2 s; start what feeds it"),
    ):
        list(read(tmp_path / "pipe", SourceOptions(timeout=0.2)).pictures())


def test_standard_input_is_a_word(tmp_path: Path, corners: Rgb, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(file_of(corners) * 2)
    with (tmp_path / "a").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        source = open_source("-")
        assert [picture.name for picture in source.pictures()] == [f"standard input picture {i}" for i in (0, 1)]


def test_a_splitter_passes_over_thumbnails_and_markers_in_coded_data(corners: Rgb) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64, 3), np.uint8)
    thumbnail = file_of(corners)
    whole = file_of(noise, quality=100, progressive=True, restart_marker_rows=1, comment=thumbnail)
    assert thumbnail in whole
    splitter = JpegSplitter()
    assert splitter.feed(whole * 2) == [whole, whole]
    assert not splitter.unfinished
    assert splitter.damaged == 0


def test_a_splitter_keeps_no_more_than_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo_camera.sources.jpeg_split.MOST_BYTES", 1000)
    splitter = JpegSplitter()
    assert splitter.feed(bytes(10_000)) == []
    assert not splitter.unfinished
    assert splitter.feed(b"\xff\xd8\xff\xda\0\x02" + bytes(5000)) == []
    assert splitter.damaged == 1
    assert not splitter.unfinished


def test_a_splitter_survives_anything() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        splitter = JpegSplitter()
        data = rng.choice([0xFF, 0xD8, 0xD9, 0xDA, 0, 2, 0xE0], 400).astype(np.uint8).tobytes()
        for at in range(0, 400, 13):
            for picture in splitter.feed(data[at : at + 13]):
                assert picture.startswith(b"\xff\xd8\xff")
                assert picture.endswith(b"\xff\xd9")


def test_a_file_of_jpegs_is_a_film_without_times(tmp_path: Path, corners: Rgb) -> None:
    (tmp_path / "a.mjpeg").write_bytes(file_of(corners) + file_of(corners[::-1]))
    source = open_source(str(tmp_path / "a.mjpeg"), SourceOptions(max_rate=1))
    pictures = list(source.pictures())
    assert [(p.name, p.captured_ms, p.at) for p in pictures] == [(f"a.mjpeg picture {i}", None, None) for i in (0, 1)]
    assert same(pictures[1].image, corners[::-1])


@pytest.mark.parametrize("tail", [b"", b"\n", bytes(5000)])
def test_a_photograph_with_a_thumbnail_or_more_behind_it_is_one(tail: bytes, tmp_path: Path, corners: Rgb) -> None:
    (tmp_path / "a.jpg").write_bytes(file_of(corners, comment=file_of(corners[::-1])) + tail)
    (picture,) = open_source(str(tmp_path / "a.jpg")).pictures()
    assert (picture.name, picture.image.shape) == ("a.jpg", corners.shape)


@pytest.mark.parametrize("way", ["file", "pipe"])
def test_a_photograph_that_carries_more_of_itself_is_one(way: str, tmp_path: Path, corners: Rgb) -> None:
    """As telephones write it for HDR: Pillow's multi-picture format (CIPA DC-007)."""
    from PIL import Image

    data = file_of(corners, "MPO", save_all=True, append_images=[Image.fromarray(corners[::-1])])
    if way == "file":
        (tmp_path / "a").write_bytes(data)
        (picture,) = open_source(str(tmp_path / "a")).pictures()
    else:
        with piped(tmp_path / "a", data):
            (picture,) = read(tmp_path / "a").pictures()
    assert same(picture.image, corners)
