"""Fetching a release: resumed where it was cut, verified before it has its name, placed in one step.

    CACHE/models/face64             whole and verified
    CACHE/.models-face64.part/      what has come so far
    CACHE/.models-face64.lock       held by the one process that fetches

A file that has come whole is kept for the next try, also when another one fails. One of another content than the index
says is thrown away.
"""

import os
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx2
from filelock import FileLock, Timeout

from edge_stscq import __version__
from edge_stscq.bundle.manifest import sha256_file
from edge_stscq.errors import EdgeError
from edge_stscq.hub.index import Index, Release, ReleasedFile, load_index

PLACE_VARIABLE = "EDGE_STSCQ_MODELS"
ATTEMPTS = 5
"""Tries of one file in a row that bring not one byte."""
PAUSE = 0.5
"""Seconds before the second try; doubled with each further one."""
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})

Progress = Callable[[int], None]


class _CutError(Exception):
    """A transfer that may go on when it is tried again."""


def cache_folder() -> Path:
    """Folder of this user's caches, e.g. ~/.cache/edge-stscq."""
    from platformdirs import user_cache_path

    return user_cache_path("edge-stscq", appauthor=False)


def pull(
    name: str,
    place: str | None = None,
    *,
    cache: Path | None = None,
    index: Index | None = None,
    tls: ssl.SSLContext | None = None,
    progress: Progress = lambda size: None,
) -> Path:
    """Fetch a released model or bundle, unless it is here, and return its folder.

    Args:
        name: of the index, e.g. "face64" or "face64:onnx-int8".
        place: address or folder below which the files are; `EDGE_STSCQ_MODELS` if None.
        cache: where releases are kept; the user's cache folder if None.
        index: what is released; the package's own if None.
        tls: of an authority that this machine does not trust by itself.
        progress: called with the number of bytes that have come.

    Raises:
        EdgeError: there is no such name, no place is given, the place does not have a file or has another one, or the
            connection is lost again and again. What has come is kept for the next try.

    Example:
        >>> folder = pull("face64:onnx-int8", "https://models.example/edge-stscq")  # doctest: +SKIP
    """
    release = (index or load_index()).find(name)
    cache = cache or cache_folder()
    folder = cache / release.folder
    with _locked(cache, release, name):
        if folder.is_dir():
            try:
                release.check(folder)
            except EdgeError:
                shutil.rmtree(folder)
            else:
                return folder
        place = place or os.environ.get(PLACE_VARIABLE)
        if not place:
            raise EdgeError(f"{name} is not here; say where to get it with --from URL|DIR or {PLACE_VARIABLE}")
        part = cache / f".{release.folder.replace('/', '-')}.part"
        try:
            _fetch_all(release, place, part, tls, progress)
            release.check(part)
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.replace(part, folder)
        except OSError as error:
            raise EdgeError(f"cannot keep {name} in {cache}: {error.strerror}; check its free space") from error
    return folder


@contextmanager
def _locked(cache: Path, release: Release, name: str) -> Iterator[None]:
    """One process at a time; another one waits and then finds what the first has fetched."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{release.folder.replace('/', '-')}.lock", timeout=600):
            yield
    except Timeout:
        raise EdgeError(
            f"another process has been fetching {name} for ten minutes; try again when it is done"
        ) from None
    except OSError as error:
        raise EdgeError(f"cannot use the cache {cache}: {error.strerror}; set XDG_CACHE_HOME to a folder") from error


def _fetch_all(release: Release, place: str, part: Path, tls: ssl.SSLContext | None, progress: Progress) -> None:
    part.mkdir(parents=True, exist_ok=True)
    for stray in [path for path in part.rglob("*") if path.is_file()]:
        if stray.relative_to(part).as_posix() not in release.files:
            stray.unlink()
    remote = place.startswith(("http://", "https://"))
    if not remote and not Path(place).is_dir():
        raise EdgeError(f"{place} is neither an http(s) address nor a folder; choose another --from")
    headers = {"User-Agent": f"edge-stscq/{__version__}", "Accept-Encoding": "identity"}
    verify = True if tls is None else tls
    with httpx2.Client(headers=headers, follow_redirects=True, timeout=30, verify=verify) as client:
        for name, file in release.files.items():
            target = part / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists() and target.stat().st_size == file.size and sha256_file(target) == file.sha256:
                progress(file.size)
                continue
            if remote:
                address = f"{place.rstrip('/')}/{quote(release.folder)}/{quote(name)}"
                _download(client, address, target, file, progress)
            else:
                address = str(Path(place) / release.folder / name)
                _copy(Path(address), target, progress)
            size, digest = target.stat().st_size, sha256_file(target)
            if (size, digest) != (file.size, file.sha256):
                target.unlink()
                raise EdgeError(f"{address} {_another(file, f'{size:,} bytes with sha256 {digest[:12]}...')}")


def _another(file: ReleasedFile, found: str) -> str:
    """That a place has another file than the index says, and why it may."""
    return (
        f"has {found}, this release {file.size:,} bytes with sha256 {file.sha256[:12]}...: damaged, or made anew with "
        "other tools or on another processor; choose another --from"
    )


def _copy(source: Path, target: Path, progress: Progress) -> None:
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        raise EdgeError(f"{source} does not exist; choose another --from") from None
    progress(target.stat().st_size)


def _download(client: httpx2.Client, address: str, target: Path, file: ReleasedFile, progress: Progress) -> None:
    """Bring a file to its size, from what is there of it on."""
    target.touch()
    progress(min(_size(target), file.size))
    in_vain = 0
    while True:
        before = _size(target)
        try:
            _transfer(client, address, target, file, progress)
        except (httpx2.TransportError, _CutError) as error:
            in_vain = 0 if _size(target) > before else in_vain + 1
            if in_vain == ATTEMPTS:
                reason = str(error) or type(error).__name__
                raise EdgeError(
                    f"{address} cannot be fetched ({reason}); what has come is kept, run the same command again"
                ) from None
            time.sleep(PAUSE * 2 ** max(0, in_vain - 1))
        else:
            return


def _transfer(client: httpx2.Client, address: str, target: Path, file: ReleasedFile, progress: Progress) -> None:
    """One request for the rest of a file. An answer that is not the rest begins it anew."""
    there = _size(target)
    if there >= file.size:
        if sha256_file(target) == file.sha256:
            return
        progress(-min(there, file.size))
        target.unlink()  # as long as the file and not the file: nothing to go on from
        there = 0
    headers = {"Range": f"bytes={there}-"} if there else {}
    with client.stream("GET", address, headers=headers) as answer:
        if answer.status_code in PASSING:
            raise _CutError(f"{answer.status_code} {answer.reason_phrase}")
        total = _total(answer)
        if total not in (None, file.size):
            raise EdgeError(f"{address} {_another(file, f'{total:,} bytes')}")
        if not answer.is_success:
            raise EdgeError(
                f"{address} was answered {answer.status_code} {answer.reason_phrase}; choose another --from"
            )
        resumed = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {there}-")
        if there and not resumed:
            progress(-there)
            there = 0
        with target.open("ab" if resumed else "wb") as out:
            for chunk in answer.iter_raw():
                if there + len(chunk) > file.size:
                    raise EdgeError(f"{address} {_another(file, f'more than {file.size:,} bytes')}")
                out.write(chunk)
                there += len(chunk)
                progress(len(chunk))
    if there < file.size:
        raise _CutError(f"the connection ended after {there:,} of {file.size:,} bytes")


def _total(answer: httpx2.Response) -> int | None:
    """Size of the whole file that an answer is of, also of one that has no such part; None where it is not said."""
    said = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if answer.status_code == 200:
        said = answer.headers.get("Content-Length", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
