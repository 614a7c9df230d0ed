"""Canonical crops read for judging: a folder of pictures or one plain `.tar`, sorted by name.

A crop is 128 x 128 RGB, aligned as the model was trained. Training crops carry 8 more pixels on each side (144 x 144)
and are cut to their centre. Nothing is resized: a picture of any other size isn't a crop, and judging it would
measure the resampling. What is read is bounded in bytes and in number, so that a wrong path costs an error and not
the machine.
"""

import tarfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.codec.config import CROP
from edge_stscq.errors import EdgeError

TRAINING_CROP = 144
"""Side of a crop with room for shifts and rotations."""
SUFFIXES = frozenset({".webp", ".png", ".jpg", ".jpeg"})
MAX_FILE_BYTES = 256 * 1024
"""A raw 144 x 144 picture is 61 KiB; a file four times as large is no crop."""
MAX_FACES = 20_000
"""Faces held in memory at once, about 1 GB."""


@dataclass(frozen=True)
class Faces:
    """Crops in the order of their names: `images` is uint8 [N,128,128,3] RGB and `names[i]` has no suffix."""

    names: tuple[str, ...]
    images: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.names)


def load_faces(source: Path, *, count: int | None = None, names: Collection[str] | None = None) -> Faces:
    """Read the crops of a folder (with its subfolders) or of an uncompressed `.tar`.

    Args:
        source: folder or `.tar` with WebP, PNG or JPEG pictures of 128 x 128 or 144 x 144.
        count: read this many, spread evenly over the sorted names (all of them when there are fewer).
        names: read exactly these file names, given without folder and suffix.

    Raises:
        EdgeError: nothing readable is there, a picture is damaged or not a crop, a wanted name is missing, or there are
            more faces than `MAX_FACES`.
    """
    if count is not None and count < 1:
        raise EdgeError(f"cannot read {count} faces; ask for at least one")
    with _opened(source) as (found, read):
        stems = {PurePosixPath(name).stem: name for name in found}
        if names is not None:
            missing = sorted(set(names) - stems.keys())
            if missing:
                raise EdgeError(f"{source} lacks {len(missing)} of {len(set(names))} wanted crops, e.g. {missing[0]}")
            chosen = [stems[name] for name in sorted(set(names))]
        else:
            chosen = sorted(found)
        if count is not None and count < len(chosen):
            chosen = [chosen[i * len(chosen) // count] for i in range(count)]
        if not chosen:
            raise EdgeError(f"{source} has no WebP, PNG or JPEG pictures; point at aligned crops of {CROP} x {CROP}")
        if len(chosen) > MAX_FACES:
            raise EdgeError(f"{source} has {len(chosen)} faces; read at most {MAX_FACES} at once with --count")
        images = np.empty((len(chosen), CROP, CROP, 3), np.uint8)
        for i, name in enumerate(chosen):
            images[i] = _crop(read(name), f"{source}: {name}")
    return Faces(tuple(PurePosixPath(name).stem for name in chosen), images)


def face_names(source: Path) -> list[str]:
    """Names of all crops of a folder or `.tar`, as `load_faces` takes them, sorted.

    Raises:
        EdgeError: nothing readable is there.
    """
    with _opened(source) as (found, _):
        return sorted(PurePosixPath(name).stem for name in found)


@contextmanager
def _opened(source: Path) -> Iterator[tuple[list[str], Callable[[str], bytes]]]:
    """Names of the pictures in `source` and a function that reads one of them, never more than the byte limit."""
    if source.is_dir():
        files = {path.relative_to(source).as_posix(): path for path in source.rglob("*") if path.is_file()}

        def read_file(name: str) -> bytes:
            with files[name].open("rb") as file:
                return file.read(MAX_FILE_BYTES + 1)

        yield [name for name in files if _is_picture(name)], read_file
        return
    if not source.exists():
        raise EdgeError(f"{source} does not exist; give a folder or a .tar of aligned crops")
    try:
        archive = tarfile.open(source, "r:")  # noqa: SIM115 - closed below; only opening may be a wrong format
    except (tarfile.TarError, OSError) as error:
        raise EdgeError(f"{source} is neither a folder nor an uncompressed .tar ({error})") from None
    with archive:
        try:
            members = {member.name: member for member in archive if member.isfile()}
        except tarfile.TarError as error:
            raise EdgeError(f"{source} is a damaged .tar ({error})") from None

        def read_member(name: str) -> bytes:
            try:
                stream = archive.extractfile(members[name])
                return b"" if stream is None else stream.read(MAX_FILE_BYTES + 1)
            except (tarfile.TarError, OSError) as error:
                raise EdgeError(f"{source}: {name} cannot be read ({error})") from None

        yield [name for name in members if _is_picture(name)], read_member


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _crop(data: bytes, where: str) -> NDArray[np.uint8]:
    """Decode one picture and cut it to the canonical crop, uint8 [128,128,3] RGB."""
    if len(data) > MAX_FILE_BYTES:
        raise EdgeError(f"{where} is larger than {MAX_FILE_BYTES // 1024} KiB; it is not an aligned crop")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:
        image = None
    if image is None:
        raise EdgeError(f"{where} is not a readable picture; remove it or make it again")
    height, width = image.shape[:2]
    if (height, width) not in ((CROP, CROP), (TRAINING_CROP, TRAINING_CROP)):
        sizes = f"{CROP} x {CROP} or {TRAINING_CROP} x {TRAINING_CROP}"
        raise EdgeError(f"{where} is {width} x {height}; aligned crops are {sizes}")
    edge = (height - CROP) // 2
    return np.asarray(image[edge : edge + CROP, edge : edge + CROP, ::-1], np.uint8)
