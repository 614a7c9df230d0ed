"""Training crops from folders of pictures and `.tar` shards.

Encoded pictures are held in memory (about 6 kB each) and decoded on the fly by a few threads. A batch is a pure
function of the seed and the step number, so a resumed run sees exactly the pictures the interrupted one would have.
"""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from edge_stscq._images import decode_image
from edge_stscq.config.codec import CROP
from edge_stscq.data.crops import open_crops
from edge_stscq.errors import EdgeError

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

    Raises:
        EdgeError: a source does not exist, or holds no picture.
    """

    def __init__(self, sources: list[Path]) -> None:
        self.names: list[str] = []
        self.encoded: list[bytes] = []
        for source in sources:
            with open_crops(Path(source), MAX_FILE_BYTES) as (names, read):
                self.names += [f"{source}: {name}" for name in names]
                self.encoded += [read(name) for name in names]
        if not self.encoded:
            raise EdgeError(f"no pictures in {', '.join(map(str, sources))}; expected .webp, .png or .jpg crops")

    def __len__(self) -> int:
        return len(self.encoded)

    def digests(self) -> np.ndarray:
        """SHA-1 of every encoded picture, uint8 [N, 20]: the key of cached embeddings."""
        return np.stack([np.frombuffer(hashlib.sha1(data).digest(), np.uint8) for data in self.encoded])

    def picture(self, index: int) -> np.ndarray:
        """Decoded picture, RGB uint8 [S, S, 3] with S >= 128."""
        image = decode_image(self.encoded[index])
        if image is None:
            raise EdgeError(f"{self.names[index]} is not a readable picture; remove it from the training set")
        if image.shape[0] != image.shape[1] or image.shape[0] < CROP:
            size = f"{image.shape[1]} x {image.shape[0]}"
            raise EdgeError(f"{self.names[index]} is {size}; crops are square, 128 px or more")
        return image

    def masked_picture(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """As `picture`, and what of it is picture, uint8 [S, S] (0 or 255): all."""
        image = self.picture(index)
        return image, np.full(image.shape[:2], 255, np.uint8)

    def crop(self, index: int, flip: bool = False) -> np.ndarray:
        """The canonical crop, RGB uint8 [128, 128, 3], mirrored if asked."""
        image = self.picture(index)
        offset = (image.shape[0] - CROP) // 2
        image = image[offset : offset + CROP, offset : offset + CROP]
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
    """What of each is picture, uint8 [N, 128, 128], 0 or 255."""
    index: Tensor
    """int64 [N]"""
    flip: Tensor
    """Whether each is mirrored, bool [N]."""


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
