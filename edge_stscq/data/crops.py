"""Face crops read from a folder of pictures or a plain `.tar`.

A canonical crop is 128 x 128 RGB, aligned as the model was trained. Training crops carry 8 more pixels on each side
(144 x 144) and are cut to their center for evaluation. Nothing is resized there: a picture of any other size isn't a
crop, and judging it would measure the resampling. What is read is bounded in bytes and in number, so that a wrong path
costs an error and not the machine.
"""

import tarfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_stscq._images import decode_image
from edge_stscq.config.codec import CROP
from edge_stscq.errors import EdgeError

Scalar = TypeVar("Scalar", bound=np.generic)

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


class StoredCrops(NamedTuple):
    """Canonical crops and how they are stored."""

    files: tuple[str, ...]
    """Names in the folder or archive."""
    sides: tuple[int, ...]
    """Pixels of the stored pictures, 128 or 144."""
    images: NDArray[np.uint8]
    """[N,128,128,3] RGB"""

    @property
    def names(self) -> tuple[str, ...]:
        """Names without folder and suffix."""
        return tuple(PurePosixPath(file).stem for file in self.files)


def load_faces(source: Path, *, count: int | None = None, names: Collection[str] | None = None) -> Faces:
    """Crops as `read_crops` reads them, by their names.

    Raises:
        EdgeError: as `read_crops`.
    """
    stored = read_crops(source, count=count, names=names)
    return Faces(stored.names, stored.images)


def read_crops(source: Path, *, count: int | None = None, names: Collection[str] | None = None) -> StoredCrops:
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
    with open_crops(source, MAX_FILE_BYTES) as (found, read):
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
        images, sides = np.empty((len(chosen), CROP, CROP, 3), np.uint8), []
        for i, name in enumerate(chosen):
            picture = _read(read(name), f"{source}: {name}")
            images[i] = center(picture)
            sides.append(len(picture))
    return StoredCrops(tuple(chosen), tuple(sides), images)


def center(picture: NDArray[Scalar]) -> NDArray[Scalar]:
    """The middle 128 x 128 of a square picture or mask, [S, S, ...] with S >= 128: the canonical crop."""
    edge = (len(picture) - CROP) // 2
    return picture[edge : edge + CROP, edge : edge + CROP]


def face_names(source: Path) -> list[str]:
    """Names of all crops of a folder or `.tar`, as `load_faces` takes them, sorted.

    Raises:
        EdgeError: nothing readable is there.
    """
    with open_crops(source, MAX_FILE_BYTES) as (found, _):
        return sorted(PurePosixPath(name).stem for name in found)


@contextmanager
def open_crops(source: Path, limit: int) -> Iterator[tuple[list[str], Callable[[str], bytes]]]:
    """Names of the pictures in a folder (sorted, with its subfolders) or `.tar` (in its order), and their reader.

    The reader takes a name and returns the file's bytes.

    Args:
        source: folder or uncompressed `.tar` with WebP, PNG or JPEG pictures.
        limit: largest file in bytes that is read.

    Raises:
        EdgeError: the source is neither, or is damaged; from the reader, also: a file is larger than `limit`.
    """
    if source.is_dir():
        files = {path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*")) if path.is_file()}

        def read_file(name: str) -> bytes:
            with files[name].open("rb") as file:
                return _bounded(file.read(limit + 1), limit, f"{source}: {name}")

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
                data = b"" if stream is None else stream.read(limit + 1)
            except (tarfile.TarError, OSError) as error:
                raise EdgeError(f"{source}: {name} cannot be read ({error})") from None
            return _bounded(data, limit, f"{source}: {name}")

        yield [name for name in members if _is_picture(name)], read_member


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _bounded(data: bytes, limit: int, where: str) -> bytes:
    if len(data) > limit:
        raise EdgeError(f"{where} is larger than {limit // 1024} KiB; it is not an aligned crop")
    return data


def _read(data: bytes, where: str) -> NDArray[np.uint8]:
    """Decode one picture, uint8 [S, S, 3] RGB with S of 128 or 144."""
    image = decode_image(data)
    if image is None:
        raise EdgeError(f"{where} is not a readable picture; remove it or make it again")
    height, width = image.shape[:2]
    if (height, width) not in ((CROP, CROP), (TRAINING_CROP, TRAINING_CROP)):
        sizes = f"{CROP} x {CROP} or {TRAINING_CROP} x {TRAINING_CROP}"
        raise EdgeError(f"{where} is {width} x {height}; aligned crops are {sizes}")
    return image
