"""Pulling releases from a local server that cuts, lies and misses, and from a folder."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.hub import resolve
from edge_stscq.hub.index import Index, describe
from edge_stscq.hub.transfer import PLACE_VARIABLE, pull

NAME = "tiny"
BIG = bytes(range(256)) * 4096


@dataclass
class Server:
    """Server with faults, and the ranges that it was asked for."""

    url: str
    cut_after: int | None = None
    """Bytes of a body that are sent before the connection is closed."""
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """Answers to the next requests, in the place of files."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    (folder / "models" / NAME / "deep").mkdir(parents=True)
    (folder / "models" / NAME / "config.json").write_bytes(b"{}")
    (folder / "models" / NAME / "deep" / "weights.bin").write_bytes(BIG)
    (folder / "models" / NAME / "empty").write_bytes(b"")
    return folder


@pytest.fixture
def index(place: Path) -> Index:
    return Index(releases={NAME: describe(NAME, place / "models" / NAME)})


@pytest.fixture
def server(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("edge_stscq.hub.transfer.PAUSE", 0.0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            asked = self.headers.get("Range")
            found.asked.append((self.path, asked))
            path = place / self.path.lstrip("/")
            if found.statuses or not path.is_file():
                self.send_response(found.statuses.pop(0) if found.statuses else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body, first = path.read_bytes(), 0
            if asked is not None and found.ranges:
                first = int(asked.removeprefix("bytes=").removesuffix("-"))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(body) - first))
            self.end_headers()
            rest = body[first:]
            self.wfile.write(rest if found.cut_after is None else rest[: found.cut_after])
            self.close_connection = True

        def log_message(self, *words: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        found = Server(f"http://127.0.0.1:{http.server_port}")
        yield found
        http.shutdown()
        thread.join()


def same(place: Path, folder: Path) -> bool:
    source = place / "models" / NAME
    names = {path.relative_to(source) for path in source.rglob("*")}
    there = {path.relative_to(folder) for path in folder.rglob("*")}
    return names == there and all((source / n).read_bytes() == (folder / n).read_bytes() for n in names
                                  if (source / n).is_file())  # fmt: skip


def test_a_release_comes_whole_and_once(server, place, index, tmp_path):
    came: list[int] = []
    folder = pull(NAME, server.url, cache=tmp_path / "cache", index=index, progress=came.append)
    assert folder == tmp_path / "cache" / "models" / NAME
    assert same(place, folder)
    assert sum(came) == index.releases[NAME].size
    asked = len(server.asked)
    assert pull(NAME, server.url, cache=tmp_path / "cache", index=index) == folder
    assert len(server.asked) == asked


def test_a_folder_is_a_place_too(place, index, tmp_path, monkeypatch):
    monkeypatch.setenv(PLACE_VARIABLE, str(place))
    assert same(place, pull(NAME, cache=tmp_path / "cache", index=index))


@pytest.mark.parametrize("ranges", [True, False])
def test_cut_connections_are_resumed_where_the_server_can(server, place, index, tmp_path, ranges):
    server.cut_after, server.ranges = len(BIG) // 3 + 1, ranges
    if ranges:
        assert same(place, pull(NAME, server.url, cache=tmp_path / "cache", index=index))
        big = [asked for path, asked in server.asked if path.endswith("weights.bin")]
        assert big == [None, f"bytes={server.cut_after}-", f"bytes={2 * server.cut_after}-"]
        return
    with pytest.raises(EdgeError, match="what has come is kept, run the same command again"):
        pull(NAME, server.url, cache=tmp_path / "cache", index=index)
    server.cut_after = None
    assert same(place, pull(NAME, server.url, cache=tmp_path / "cache", index=index))


def test_what_came_before_a_failure_is_kept_for_the_next_process(server, place, index, tmp_path):
    server.cut_after = len(BIG) // 2
    server.statuses = []
    weights = place / "models" / NAME / "deep" / "weights.bin"
    part = tmp_path / "cache" / f".models-{NAME}.part" / "deep" / "weights.bin"
    part.parent.mkdir(parents=True)
    part.write_bytes(BIG[:1000])
    assert same(place, pull(NAME, server.url, cache=tmp_path / "cache", index=index))
    assert ("/models/tiny/deep/weights.bin", "bytes=1000-") in server.asked
    assert weights.read_bytes() == BIG


def test_a_busy_server_is_asked_again(server, place, index, tmp_path):
    server.statuses = [503, 429]
    assert same(place, pull(NAME, server.url, cache=tmp_path / "cache", index=index))


@pytest.mark.parametrize("change", [b"\xff" + BIG[1:], BIG + b"more", BIG[:-1]])
def test_another_file_is_refused_and_nothing_takes_the_name(server, place, index, tmp_path, change):
    weights = place / "models" / NAME / "deep" / "weights.bin"
    weights.write_bytes(change)
    wanted = index.releases[NAME].files["deep/weights.bin"]
    differs = (
        rf"weights.bin has {len(change):,} bytes.*, this release {wanted.size:,} bytes with sha256 "
        rf"{wanted.sha256[:12]}.*or made anew .*; choose another --from"
    )
    for where in (server.url, str(place)):
        with pytest.raises(EdgeError, match=differs):
            pull(NAME, where, cache=tmp_path / "cache", index=index)
        assert not (tmp_path / "cache" / "models").exists()
    weights.write_bytes(BIG)
    assert same(place, pull(NAME, server.url, cache=tmp_path / "cache", index=index))


def test_a_damaged_beginning_is_thrown_away(server, place, index, tmp_path):
    part = tmp_path / "cache" / f".models-{NAME}.part" / "deep" / "weights.bin"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"\xff" * 1000)
    with pytest.raises(EdgeError, match="damaged"):
        pull(NAME, server.url, cache=tmp_path / "cache", index=index)
    assert same(place, pull(NAME, server.url, cache=tmp_path / "cache", index=index))


def test_a_missing_file_names_the_address(server, place, index, tmp_path):
    (place / "models" / NAME / "deep" / "weights.bin").unlink()
    with pytest.raises(EdgeError, match=r"weights.bin was answered 404 Not Found; choose another --from"):
        pull(NAME, server.url, cache=tmp_path / "cache", index=index)
    with pytest.raises(EdgeError, match=r"weights.bin does not exist; choose another --from"):
        pull(NAME, str(place), cache=tmp_path / "cache", index=index)


def test_without_a_place_or_with_none_that_is_one(index, tmp_path, monkeypatch):
    monkeypatch.delenv(PLACE_VARIABLE, raising=False)
    with pytest.raises(EdgeError, match="--from URL|DIR or EDGE_STSCQ_MODELS"):
        pull(NAME, cache=tmp_path / "cache", index=index)
    with pytest.raises(EdgeError, match="neither an http"):
        pull(NAME, str(tmp_path / "absent"), cache=tmp_path / "cache", index=index)
    with pytest.raises(EdgeError, match="nothing is released as 'other'; there are tiny"):
        pull("other", str(tmp_path), cache=tmp_path / "cache", index=index)


def test_an_altered_cache_is_fetched_anew(server, place, index, tmp_path):
    folder = pull(NAME, server.url, cache=tmp_path / "cache", index=index)
    (folder / "config.json").write_bytes(b"[]")
    assert same(place, pull(NAME, server.url, cache=tmp_path / "cache", index=index))


@pytest.fixture
def released(index, tmp_path, monkeypatch):
    """The index as the package's own, and an empty cache; nothing came with the program."""
    monkeypatch.setattr("edge_stscq.hub.names.load_index", lambda: index)
    monkeypatch.setattr("edge_stscq.hub.transfer.load_index", lambda: index)
    monkeypatch.setattr("edge_stscq.hub.names.INSTALLED", (tmp_path / "installed",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(PLACE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("released")
def test_name_is_a_path_then_beside_then_cached_then_pulled(place, tmp_path, monkeypatch):
    """A name is a path then beside the program then cached then pulled."""
    with pytest.raises(EdgeError, match="get it with: edge-stscq pull tiny --from"):
        resolve(NAME)
    pulled: list[str] = []
    monkeypatch.setenv(PLACE_VARIABLE, str(place))
    cached = resolve(NAME, pulled.append)
    assert (same(place, cached), pulled) == (True, [NAME])
    monkeypatch.delenv(PLACE_VARIABLE)
    assert resolve(NAME, pulled.append) == cached
    (cached / "config.json").write_bytes(b"[]")
    with pytest.raises(EdgeError, match="altered .* fetch it again with: edge-stscq pull tiny"):
        resolve(NAME)
    (tmp_path / "installed" / "models" / NAME).mkdir(parents=True)
    assert resolve(NAME) == tmp_path / "installed" / "models" / NAME
    (tmp_path / NAME).mkdir()
    assert resolve(NAME) == Path(NAME)


@pytest.mark.usefixtures("released")
def test_a_word_that_is_neither_is_said_to_be_neither():
    with pytest.raises(EdgeError, match="other is neither a folder nor released; released are tiny"):
        resolve("other")
    assert resolve("some/other") == Path("some/other")
