"""1,000 randomly damaged stores and spools: is every damage named, repaired or caught, and none silent?

    python -m benchmarks.soak.damaged_files --count 1000      -> benchmarks/results/damaged_files.json

Each file gets one to thirty changes of one to 512 bytes. Of a store, every face that is listed afterwards must be the
one that was put, or `check` must have said that something is damaged; `repair` must then leave a whole store of nothing
but such faces, or refuse and leave the file. Of a spool, every frame that it gives away must be one that was put; what
is missing must be counted as damaged, or the file refused in one line.

    whole       the change was of no consequence: every face is there
    repaired    a store was damaged, and is whole again without the faces that were named as lost
    counted     a spool removed and counted what was damaged
    caught      the file was refused in one line
    silent      a face is another, or is missing without a word

"silent" must be 0.
"""

import contextlib
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.record import write
from edge_stscq.cli.ui import progress_bar
from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from edge_stscq.server.maintenance.inspection import inspect_store, repair_store
from edge_stscq.server.storage.face_store import FrameBatch, undamaged
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.envelope import CapturedFace, Clock, Source, WireFrame, stream_id

FACES = 300
KEY, MODEL = bytes(range(16)), b"12345678"
NOON = 1_700_000_000_000


def changed(content: bytes, chance: random.Random) -> bytes:
    """A file's content with one to thirty changes."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 3, 30))):
        at, size = chance.randrange(len(data)), chance.choice((0, 1, 16, 512))
        if size:
            data[at : at + size] = chance.randbytes(min(size, len(data) - at))
        else:
            data[at] ^= 1 << chance.randrange(8)
    return bytes(data)


def payload(number: int) -> bytes:
    return random.Random(number).randbytes(1 + number % 64)


def store_file(folder: Path) -> bytes:
    """A closed store of `FACES` faces."""
    source = Source(stream_id(KEY), "door-1", MODEL, clock=Clock.SYNCHRONIZED)
    frames = [WireFrame(source, number, 1, payload(number), NOON + number) for number in range(FACES)]
    path = folder / "whole.db"
    with contextlib.closing(SqlFaceStore(path)) as store:
        for at in range(0, FACES, 10):
            store.accept_all([FrameBatch(frames[at : at + 10], lambda old, new: old == new)])
    return path.read_bytes()


def listed(path: Path) -> dict[str, WireFrame]:
    """All faces that a store gives out, by name; it names the damaged ones."""
    with contextlib.closing(SqlFaceStore(path)) as store:
        return {face.id: face.frame() for face in undamaged(store.page(-(2**63), 10 * FACES))}


def fate_of_store(path: Path, whole: dict[str, WireFrame]) -> str:
    """The end of one damaged store."""
    try:
        if inspect_store(path).whole:
            return "whole" if listed(path) == whole else "silent"
        repaired = repair_store(path)
    except EdgeError:
        return "caught"
    found = listed(path)
    right = found.items() <= whole.items() and inspect_store(path).whole and repaired.kept == len(found)
    told = len(found) + len(repaired.lost) + repaired.unnamed >= len(whole)
    return "repaired" if right and told else "silent"


def spool_file(path: Path) -> tuple[bytes, set[WireFrame]]:
    """A closed spool of `FACES` faces, and the frames in it."""
    frames: set[WireFrame] = set()
    with Spool(path, "door-1") as spool:
        for number in range(FACES):
            parts = ((1, payload(number)[:9]), (3, payload(number)))
            face = CapturedFace(MODEL, parts, NOON + number, Clock.SYNCHRONIZED)
            spool.put(face)
            frames |= set(face.frames(spool.stream_id, "door-1", number))
        spool._file.vacuum()
    return path.read_bytes(), frames


def fate_of_spool(path: Path, frames: set[WireFrame]) -> str:
    """The end of one damaged spool."""
    got: set[WireFrame] = set()
    try:
        with Spool(path) as spool:
            for _ in range(10 * FACES):
                lease = spool.lease(64, 60)
                if lease is None:
                    break
                got |= set(lease.frames)
                spool.settle(lease)
            else:
                return "silent"
            damaged = spool.status().damaged
    except EdgeError:
        return "caught" if got <= frames else "silent"
    if got == frames:
        return "whole"
    return "counted" if got < frames and damaged else "silent"


def main(
    count: Annotated[int, typer.Option(min=1, help="Files of each kind.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the damage.")] = 1,
) -> None:
    """Damage files, and write the fate of each kind to benchmarks/results/damaged_files.json."""
    chance = random.Random(seed)
    fates: dict[str, Counter[str]] = {"stores": Counter(), "spools": Counter()}
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        place = Path(folder)
        content = store_file(place)
        whole = listed(place / "whole.db")
        spooled, frames = spool_file(place / "whole.spool")
        with progress_bar("files", 2 * count) as progress:
            for number in range(count):
                for kind in fates:
                    room = place / f"{kind}-{number}"
                    room.mkdir()
                    path = room / "file"
                    path.write_bytes(changed(content if kind == "stores" else spooled, chance))
                    path.chmod(0o600)
                    fate = fate_of_store(path, whole) if kind == "stores" else fate_of_spool(path, frames)
                    fates[kind][fate] += 1
                    if fate == "silent":
                        typer.echo(f"silent: {kind} {number} of seed {seed}", err=True)
                    for left in room.iterdir():
                        left.unlink()
                    room.rmdir()
                    progress(1)
    names = ("whole", "repaired", "counted", "caught", "silent")
    results = {kind: {name: found[name] for name in names} for kind, found in fates.items()}
    typer.echo(f"{write('damaged_files', {'count': count, 'faces': FACES, **results})}: {results}")


if __name__ == "__main__":
    typer.run(main)
