"""A run of one place: its worker is started, handed shard after shard, and what it answers is kept."""

import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.equality import answers
from benchmarks.equality.crops import Shard
from benchmarks.equality.places.base import ROOT, Place, Setting, artifact_digest
from benchmarks.equality.worker import READY
from benchmarks.record import record
from edge_stscq._files import write_file
from edge_stscq.errors import EdgeError

NOTES = "place.json"
"""Beside a place's answers: what it is, where and when they were given, and which crops they are to."""


class Worker:
    """A started worker; `started` makes it.

    Attributes:
        runtime: what it says that it runs.
    """

    def __init__(self, process: "subprocess.Popen[str]", errors: Path) -> None:
        self._process, self._errors = process, errors
        self.runtime = str(json.loads(self._reply())["runtime"])

    def answer(self, shard: Path, path: Path) -> None:
        """Let it write the answers to a shard at `path`, which appears when they are whole.

        Raises:
            EdgeError: the worker ended; with the last it said.
        """
        part = path.with_name(f".{path.name}.part")
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{shard.resolve()}\t{part.resolve()}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        self._reply()
        os.replace(part, path)

    def _reply(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(READY):
                return line.removeprefix(READY)
        raise self._ended()

    def _ended(self) -> EdgeError:
        code = self._process.wait()
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        said = f": {lines[-1].removeprefix('error: ')}" if lines else ""
        return EdgeError(f"the worker ended with exit code {code}{said}")


@contextmanager
def started(place: Place, setting: Setting) -> Iterator[Worker]:
    """The worker of a place, ready; it ends with the block.

    Raises:
        EdgeError: something that it needs is missing, or it does not start.
    """
    words, environment = place.worker(setting)
    with tempfile.TemporaryDirectory() as scratch:
        errors = Path(scratch) / "errors"
        with errors.open("wb") as log:
            process = subprocess.Popen(
                words, cwd=ROOT, env=os.environ | environment, text=True, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        with process:
            try:
                yield Worker(process, errors)
            except BaseException:
                process.kill()
                raise


def folder_of(place: Place, setting: Setting, work: Path) -> Path:
    """Where a place's answers by the present artefact are kept."""
    return work / "answers" / f"{place.name}.{artifact_digest(setting.bundle(place.target))[:12]}"


def run(
    place: Place,
    setting: Setting,
    shards: Sequence[Shard],
    work: Path,
    *,
    until: float,
    progress: Callable[[str], None],
) -> bool:
    """Answer the golden pictures and all shards that are not answered yet; whether all are now.

    Args:
        work: folder of answers.
        until: of the monotonic clock; no shard is begun later.

    Raises:
        EdgeError: the place cannot be run, or its worker ended; answers that were given stay.
    """
    bundle, folder = setting.bundle(place.target), folder_of(place, setting, work)
    folder.mkdir(parents=True, exist_ok=True)
    notes = _notes(folder)
    done = {name: sha256 for name, sha256 in notes.get("shards", {}).items() if (folder / f"{name}.i32").exists()}
    left = [shard for shard in shards if done.get(shard.path.stem) != shard.sha256]
    if not left and "golden" in notes:
        return True
    with started(place, setting) as worker:
        notes |= {key: value for key, value in record(None).items() if key != "results"}
        notes |= {
            "place": place.name, "title": place.title, "measured": place.measured, "runtime": worker.runtime,
            "artefact": artifact_digest(bundle), "tokens": bundle.config.tokens, "shards": done,
            "seconds": notes.get("seconds", 0.0),
        }  # fmt: skip
        notes["golden"] = _golden(worker, bundle.golden, folder)
        _save(folder, notes)
        for number, shard in enumerate(left):
            if time.monotonic() >= until:
                return False
            if hashlib.sha256(shard.path.read_bytes()).hexdigest() != shard.sha256:
                raise EdgeError(f"{shard.path} was altered; make it again: python -m benchmarks.equality crops")
            begin, path = time.monotonic(), folder / f"{shard.path.stem}.i32"
            worker.answer(shard.path, path)
            answers.read(path, shard.count, bundle.config.tokens)
            done[shard.path.stem] = shard.sha256
            notes["seconds"] = round(notes["seconds"] + time.monotonic() - begin, 1)
            _save(folder, notes)
            progress(f"{place.name}: shard {number + 1} of {len(left)}")
    return True


def _golden(worker: Worker, golden: Any, folder: Path) -> dict[str, int]:
    """Answers to the bundle's golden pictures beside those at export."""
    pictures, path = folder / "golden.u8", folder / "golden.i32"
    pictures.write_bytes(golden.images.tobytes())
    worker.answer(pictures, path)
    count, length = golden.tokens.shape
    expected = answers.pack(golden.groups, golden.tokens)
    rows = answers.read(path, count, length)
    compared = answers.compare([rows], [answers.unpack(expected, length)])
    return {"tokens": compared.tokens, "tokens_equal": compared.tokens_equal}


def _notes(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / NOTES).read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise EdgeError(f"{folder / NOTES} is damaged; remove the folder and run again") from error
    return found


def _save(folder: Path, notes: dict[str, Any]) -> None:
    write_file(folder / NOTES, (json.dumps(notes, indent=1) + "\n").encode())
