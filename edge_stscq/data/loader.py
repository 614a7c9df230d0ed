"""Training crops from folders of pictures and `.tar` shards.

Encoded pictures are held in memory (about 6 kB each) and decoded on the fly by a few threads. A batch is a pure
function of the seed and the step number, so a resumed run sees exactly the pictures the interrupted one would have.
"""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor

from edge_stscq.config.codec import CROP
from edge_stscq.data.crops import center, open_crops
from edge_stscq.data.masks import Corners, draw_mask, has_alpha, read_inside
from edge_stscq.errors import EdgeError

if TYPE_CHECKING:
    from edge_stscq.data.completion import Completion

MAX_FILE_BYTES = 1024 * 1024
"""Pictures may be larger than the canonical crop; one of more bytes is no crop."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training crop. Pixels, degrees and relative amounts; zero switches one off."""

    flip: bool = True
    shift: float = 3.0
    rotation: float = 4.0
    scale: float = 0.03
    brightness: float = 0.12
    contrast: float = 0.12


class FaceSet:
    """Square aligned pictures of at least 128 px; larger ones are centred on the canonical crop.

    Args:
        sources: folders and .tar archives; what of their crops is picture stands beside them (`data/masks.py`).
        masked: false takes all of every crop for picture.

    Raises:
        EdgeError: a source does not exist, or holds no picture; its inside-file is damaged or names crops it lacks.
    """

    def __init__(self, sources: list[Path], masked: bool = True) -> None:
        self.names: list[str] = []
        self.encoded: list[bytes] = []
        self.corners: list[Corners | None] = []
        self.completion: Completion | None = None
        self.masked = masked
        for source in map(Path, sources):
            with open_crops(source, MAX_FILE_BYTES) as (names, read):
                inside = read_inside(source, names) if masked else {}
                for name in names:
                    if name in inside and inside[name] is None:
                        continue
                    self.names.append(f"{source}: {name}")
                    self.encoded.append(read(name))
                    self.corners.append(inside.get(name))
        if not self.encoded:
            raise EdgeError(f"no pictures in {', '.join(map(str, sources))}; expected .webp, .png or .jpg crops")

    def __len__(self) -> int:
        return len(self.encoded)

    def is_partial(self, index: int) -> bool:
        """True if something says that not all of a crop is picture."""
        return self.masked and (self.corners[index] is not None or has_alpha(self.encoded[index]))

    def digest(self, index: int) -> bytes:
        """SHA-1 of an encoded picture and of what of it is picture, 20 bytes."""
        corners = self.corners[index]
        return hashlib.sha1(self.encoded[index] + (b"" if corners is None else corners.tobytes())).digest()

    def made_of(self, index: int) -> bytes:
        """SHA-1 of all that `picture` depends on, 20 bytes: the key of cached embeddings."""
        if self.completion is None or not self.is_partial(index):
            return hashlib.sha1(self.encoded[index]).digest()
        return hashlib.sha1(self.digest(index) + self.completion.digest).digest()

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A picture as it is stored, RGB uint8 [S, S, 3] with S >= 128, and what of it is picture, uint8 [S, S].

        Raises:
            EdgeError: it is not readable, not square or too small, or hardly any of it is picture.
        """
        name, partial = self.names[index], self.is_partial(index)
        alpha = partial and has_alpha(self.encoded[index])
        image = cv2.imdecode(
            np.frombuffer(self.encoded[index], np.uint8), cv2.IMREAD_UNCHANGED if alpha else cv2.IMREAD_COLOR_RGB
        )
        if image is None:
            raise EdgeError(f"{name} is not a readable picture; remove it from the training set")
        if image.shape[0] != image.shape[1] or image.shape[0] < CROP:
            size = f"{image.shape[1]} x {image.shape[0]}"
            raise EdgeError(f"{name} is {size}; crops are square, 128 px or more")
        channel = None
        if alpha:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 4:
                raise EdgeError(f"{name} has an alpha channel but is no 8-bit RGBA picture; save it as one")
            image, channel = cv2.cvtColor(image, cv2.COLOR_BGRA2RGB), image[..., 3]
        if not partial:
            return image, np.full(image.shape[:2], 255, np.uint8)
        return image, draw_mask(image.shape[0], self.corners[index], channel, name)

    def masked_picture(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """As `read`, with what is no picture completed, if `completion` is set."""
        image, mask = self.read(index)
        if self.completion is not None and self.is_partial(index):
            image = self.completion.complete(image, mask, self.digest(index))
        return image, mask

    def picture(self, index: int) -> np.ndarray:
        """Decoded picture, RGB uint8 [S, S, 3] with S >= 128."""
        return self.masked_picture(index)[0]

    def mask(self, index: int) -> np.ndarray:
        """Mask of what is picture of a stored one, uint8 [S, S], 0 or 255."""
        return self.masked_picture(index)[1]

    def crop(self, index: int, flip: bool = False) -> np.ndarray:
        """The canonical crop, RGB uint8 [128, 128, 3], mirrored if asked."""
        return _middle(self.picture(index), flip)

    def crop_mask(self, index: int, flip: bool = False) -> np.ndarray:
        """Mask of what is picture of the canonical crop, uint8 [128, 128], mirrored if asked."""
        return _middle(self.mask(index), flip)


def _middle(image: np.ndarray, flip: bool) -> np.ndarray:
    image = center(image)
    return np.ascontiguousarray(image[:, ::-1] if flip else image)


def augment(
    image: np.ndarray, mask: np.ndarray, change: Augmentation, flip: bool, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One augmented crop, RGB uint8 [128, 128, 3], and what of it is picture, uint8 [128, 128] (0 or 255).

    Args:
        mask: what of `image` is picture, uint8 [S, S].
        draws: six uniform numbers in -1..1.
    """
    side = image.shape[0]
    angle = np.deg2rad(change.rotation * draws[0])
    scale = 1 + change.scale * draws[1]
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    if flip:
        image, mask = image[:, ::-1], mask[:, ::-1]
    centre, target = (side - 1) / 2, (CROP - 1) / 2
    shift = change.shift * draws[2:4]
    matrix = np.array([
        [cos, -sin, target + shift[0] - cos * centre + sin * centre],
        [sin, cos, target + shift[1] - sin * centre - cos * centre],
    ])  # fmt: skip
    crop = cv2.warpAffine(image, matrix, (CROP, CROP), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    inside = cv2.warpAffine(mask, matrix, (CROP, CROP), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    gain = 1 + change.contrast * draws[4]
    offset = 127.5 * (change.brightness * draws[5] + 1 - gain)
    return np.asarray(np.clip(crop * np.float32(gain) + np.float32(offset), 0, 255), np.uint8), inside


@dataclass(frozen=True)
class Batch:
    """N augmented pictures of a training set."""

    images: Tensor
    """uint8 [N, 128, 128, 3]"""
    masks: Tensor
    """Mask of what is picture of each, uint8 [N, 128, 128], 0 or 255."""
    index: Tensor
    """int64 [N]"""
    flip: Tensor
    """True where a crop is mirrored, bool [N]."""


class Loader:
    """Batches by step number, prepared ahead by threads. Every process of a distributed run takes its own share."""

    def __init__(
        self, faces: FaceSet, batch: int, seed: int, change: Augmentation, rank: int = 0, world: int = 1
    ) -> None:
        if len(faces) < batch * world:
            raise EdgeError(f"{len(faces)} pictures do not fill a batch of {batch * world}; lower the batch size")
        self.faces, self.batch, self.seed, self.change = faces, batch, seed, change
        self.rank, self.world = rank, world
        self._pool = ThreadPoolExecutor(2)
        self._ahead: dict[int, Future[Batch]] = {}
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def _indices(self, step: int) -> np.ndarray:
        per_epoch = len(self.faces) // (self.batch * self.world)
        epoch, position = divmod(step, per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng((self.seed, epoch)).permutation(len(self.faces)))
        start = (position * self.world + self.rank) * self.batch
        return self._order[1][start : start + self.batch]

    def _make(self, step: int, indices: np.ndarray) -> Batch:
        random = np.random.default_rng((self.seed, step, self.rank, 1))
        draws = random.uniform(-1, 1, (self.batch, 6))
        flips = random.random(self.batch) < 0.5 if self.change.flip else np.zeros(self.batch, bool)
        changed = [
            augment(*self.faces.masked_picture(int(i)), self.change, bool(f), d)
            for i, f, d in zip(indices, flips, draws, strict=True)
        ]
        images, masks = (torch.from_numpy(np.stack(part)) for part in zip(*changed, strict=True))
        return Batch(images, masks, torch.from_numpy(indices.copy()), torch.from_numpy(flips))

    def get(self, step: int, ahead: int = 3) -> Batch:
        """The batch of `step`; the following ones are prepared meanwhile."""
        for future in range(step, step + 1 + ahead):
            if future not in self._ahead:
                self._ahead[future] = self._pool.submit(self._make, future, self._indices(future))
        for past in [s for s in self._ahead if s < step]:
            del self._ahead[past]
        return self._ahead.pop(step).result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
