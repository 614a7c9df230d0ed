"""Writing a file: all of it, or the one that was there."""

import errno
import os
import stat
from pathlib import Path

import pytest

from edge_stscq._files import make_folder, write_file
from edge_stscq.errors import EdgeError


def test_a_file_is_replaced_and_has_the_usual_rights(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"old", b"newer"):
        write_file(path, data)
        assert path.read_bytes() == data
    usual = tmp_path / "usual"
    usual.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EdgeError, match="cannot write .*No space left on device; check the folder"):
        write_file(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(EdgeError, match="cannot write"):
        write_file(tmp_path / "folder", b"")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_make_folder_makes_parents_and_names_what_is_in_the_way(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(EdgeError, match="cannot make the folder .*file/b: Not a directory; choose another with --html"):
        make_folder(tmp_path / "file" / "b", "--html")
