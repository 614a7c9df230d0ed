"""Writing a file: all of it, or the one that was there."""

import errno
import os
import stat
from pathlib import Path

import pytest

from edge_stscq._files import NewFile, make_folder, write_file
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


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "link", tmp_path / "elsewhere" / "file"
    link.symlink_to(target)
    for data in (b"first", b"second"):
        write_file(link, data)
        assert link.is_symlink()
        assert target.read_bytes() == data
    assert [p.name for p in target.parent.iterdir()] == ["file"]


def test_a_device_and_a_pipe_stay_what_they_are(tmp_path: Path) -> None:
    before = os.stat("/dev/null")
    write_file(Path("/dev/null"), b"data")
    assert (os.stat("/dev/null").st_rdev, os.stat("/dev/null").st_ino) == (before.st_rdev, before.st_ino)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, b"data")
    assert os.read(reader, 99) == b"data"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_pipe_that_nobody_reads_any_more_is_one_line(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    file = NewFile(pipe)
    os.close(reader)
    with pytest.raises(EdgeError, match="cannot write .*pipe: Broken pipe; check"):
        file.append(b"data")
    file.discard()
    assert pipe.exists()


def test_a_private_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old, for all")
    write_file(path, b"new", private=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_growing_file_keeps_what_was_appended_before_the_disk_was_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    file = NewFile(path)
    file.append(b"kept")
    assert not path.exists()
    write = os.write

    def full(number: int, data: memoryview) -> int:
        if len(data) > 4:
            return write(number, data[:4])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(EdgeError, match="No space left on device"):
            file.append(b"lost words")
    file.append(b" too")
    file.publish()
    assert path.read_bytes() == b"kept too"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_new_file_is_refused_before_a_byte_is_made(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="cannot write .*No such file or directory"):
        NewFile(tmp_path / "nowhere" / "file")
    with pytest.raises(EdgeError, match="cannot write .*Is a directory"):
        NewFile(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_growing_file_that_cannot_take_its_name_is_not_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = NewFile(path)
    file.append(b"kept")
    (path / "in the way").mkdir(parents=True)
    with pytest.raises(EdgeError, match=r"cannot write .*file: Is a directory; all of it is in .*\.file\.") as raised:
        file.publish()
    assert Path(str(raised.value).rsplit(" ", 1)[1]).read_bytes() == b"kept"
