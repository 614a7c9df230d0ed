"""A folder is read by name; what is damaged or foreign is counted, named and passed over; a watched one goes on."""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from demo_camera.sources import Picture, SourceOptions, open_source
from demo_camera.sources.stored import folders
from tests.support.installed import need_module
from tests.support.sources.pictures import Lines, file_of, film

Rgb = NDArray[np.uint8]


@pytest.fixture
def mixed(tmp_path: Path, corners: Rgb) -> Path:
    """Seven files that are read and what else lies in a folder."""
    root = tmp_path / "mixed"
    (root / "more" / "deep").mkdir(parents=True)
    for name in ("b.jpg", "a.png", "more/c.jfif", "more/deep/d"):
        (root / name).write_bytes(file_of(corners, "PNG" if name.endswith("png") else "JPEG"))
    film(root / "e.mp4", [corners] * 3)
    (root / "cut.jpg").write_bytes(file_of(corners)[:-50])
    (root / "empty.jpg").write_bytes(b"")
    (root / "notes.txt").write_text("no picture\n" * 100)
    (root / ".hidden.jpg").write_bytes(file_of(corners))
    (root / ".cache").mkdir()
    (root / ".cache" / "f.jpg").write_bytes(file_of(corners))
    (root / "gone.jpg").symlink_to("nowhere")
    os.mkfifo(root / "pipe.jpg")
    return root


def names(pictures: Iterator[Picture]) -> list[str]:
    return [picture.name for picture in pictures]


def test_the_bad_are_named_and_counted_and_the_rest_read(mixed: Path, lines: Lines) -> None:
    source = open_source(str(mixed), reporter=lines)
    assert names(source.pictures()) == ["a.png", "b.jpg", "e.mp4 picture 0", "e.mp4 picture 1", "e.mp4 picture 2"]
    assert source.counters.by_name() == {"pictures": 5, "damaged": 3, "skipped": 2, "dropped": 0, "reconnects": 0}
    assert [line.split(" is ")[0] for line in lines.said[:2]] == ["passed over: cut.jpg", "passed over: empty.jpg"]
    assert "gone.jpg cannot be read" in lines.said[2]
    assert len(lines.said) == 3


def test_folders_in_a_folder_are_read_when_asked_for(mixed: Path) -> None:
    source = open_source(str(mixed), SourceOptions(recursive=True))
    assert names(source.pictures())[-2:] == ["more/c.jfif", "more/deep/d"]
    assert source.counters.pictures == 7


def test_heic_without_its_extra_is_passed_over_by_name(
    tmp_path: Path, corners: Rgb, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_module("pillow_heif", "pip install 'edge-stscq[heic]'").register_heif_opener()
    (tmp_path / "a.heic").write_bytes(file_of(corners, "HEIF"))
    (tmp_path / "b.jpg").write_bytes(file_of(corners))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    source = open_source(str(tmp_path), reporter=lines)
    assert names(source.pictures()) == ["b.jpg"]
    assert source.counters.skipped == 1
    assert lines.said == ["passed over: a.heic: HEIC is not read; run: pip install 'edge-stscq[heic]'"]


def test_an_empty_folder_gives_nothing(tmp_path: Path) -> None:
    source = open_source(str(tmp_path))
    assert list(source.pictures()) == []
    assert source.counters.by_name() == dict.fromkeys(source.counters.by_name(), 0)


def test_a_watched_folder_gives_what_comes_and_what_changes(
    tmp_path: Path, corners: Rgb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "POLL", 0.02)
    (tmp_path / "a.png").write_bytes(file_of(corners, "PNG"))
    source = open_source(str(tmp_path), SourceOptions(follow=True))
    assert source.live
    pictures = source.pictures()
    assert next(pictures).name == "a.png"
    (tmp_path / "b.png").write_bytes(file_of(corners, "PNG"))
    assert next(pictures).name == "b.png"
    (tmp_path / "a.png").write_bytes(file_of(corners[::-1], "PNG") + b" ")
    changed = next(pictures)
    assert changed.name == "a.png"
    np.testing.assert_array_equal(changed.image, corners[::-1])
    threading.Timer(0.1, source.close).start()
    assert list(pictures) == []


def test_a_file_that_is_still_written_is_waited_for(
    tmp_path: Path, corners: Rgb, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look finds the file longer, until it is whole: no half picture is read, and none counts as damaged."""
    data = file_of(corners, "PNG")
    pieces = [data[:20], data[:50], data, data]
    looked = threading.Event()

    def sleep(self: object, seconds: float) -> None:
        if pieces:
            (tmp_path / "a.png").write_bytes(pieces.pop(0))
        looked.set()

    monkeypatch.setattr("demo_camera.sources.reading.Reading.sleep", sleep)
    source = open_source(str(tmp_path), SourceOptions(follow=True), lines)
    np.testing.assert_array_equal(next(source.pictures()).image, corners)
    assert looked.is_set()
    assert lines.said == []
