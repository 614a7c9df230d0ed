"""Pictures of a folder, by name; what is damaged or no picture is counted and passed over."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from demo_camera.sources.names import printable
from demo_camera.sources.picture import Picture
from demo_camera.sources.reading import Reading
from demo_camera.sources.stored.files import ForeignFileError, file_pictures
from edge_stscq.errors import EdgeError, MissingExtraError

SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic",
    ".heif", ".jp2", ".ppm", ".pgm", ".pnm",
})  # fmt: skip
"""Endings that promise a picture: such a file that is none counts as damaged, not as something else."""
POLL = 0.5
"""Seconds between two looks at a folder that is watched; a file is read when it did not change from one to the next."""

State = tuple[int, int, int]


@dataclass
class Folder:
    """Reader of a folder."""

    path: Path

    def __call__(self, reading: Reading) -> Iterator[Picture]:
        """Yield the pictures of its files, those that hide (`.name`) left out; with `follow` for ever."""
        done: dict[Path, State] = {}
        before: dict[Path, State] = {}
        while not reading.closed:
            now = self._files(reading)
            settled = [path for path in sorted(now) if not reading.options.follow or before.get(path) == now[path]]
            for path in settled:
                if done.get(path) != now[path]:
                    done[path] = now[path]
                    yield from self._file(path, reading)
                if reading.closed:
                    return
            if not reading.options.follow:
                return
            done = {path: state for path, state in done.items() if path in now}
            before = now
            reading.sleep(POLL)

    def _files(self, reading: Reading) -> dict[Path, State]:
        """The files and what changes when they do; a folder that is gone for a while has none."""
        found = {}
        try:
            for path in self.path.rglob("*") if reading.options.recursive else self.path.iterdir():
                parts = path.relative_to(self.path).parts
                if any(part.startswith(".") for part in parts):
                    continue
                try:
                    if not path.is_dir():
                        state = path.stat()
                        found[path] = (state.st_mtime_ns, state.st_size, state.st_ino)
                except OSError:
                    found[path] = (0, 0, 0)
        except OSError as error:
            if not reading.options.follow:
                raise EdgeError(f"{printable(str(self.path))} cannot be read: {error.strerror}; check it") from None
        return found

    def _file(self, path: Path, reading: Reading) -> Iterator[Picture]:
        name = printable(path.relative_to(self.path).as_posix())
        if not path.is_file() and path.exists():  # a pipe or a device would never end
            reading.counters.skipped += 1
            return
        try:
            yield from file_pictures(path, name, reading)
        except ForeignFileError as error:
            if path.suffix.lower() in SUFFIXES:
                reading.counters.damaged += 1
                reading.say(f"passed over: {error}")
            else:
                reading.counters.skipped += 1
        except MissingExtraError as error:
            reading.counters.skipped += 1
            reading.say(f"passed over: {error}")
        except EdgeError as error:
            reading.counters.damaged += 1
            reading.say(f"passed over: {error}")
