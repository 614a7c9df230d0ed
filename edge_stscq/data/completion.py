"""Crops completed: what is no picture is filled in with what principal components expect beside what is.

Probabilistic principal components with missing data (Tipping & Bishop 1999; Ilin & Raiko 2010) on crops of 36 x 36
cells: components are fitted to whole crops, the rest is completed by its conditional mean given what is picture, and
components are fitted again to all. A completion is smooth, stands behind a feathered border, and is never a target: the
losses look at what is picture. It is there so that components, codebooks, embeddings and encoders see faces, not
mirrored skin.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from edge_stscq._reporter import Reporter, track
from edge_stscq.codec.store import load_weights, save_weights
from edge_stscq.config.codec import CROP
from edge_stscq.data.loader import FaceSet
from edge_stscq.errors import EdgeError

_CELL = 4
_CELLS = 36
_FRAME = _CELL * _CELLS
"""Side in pixels of what is completed: the canonical crop and 8 px on each side, where a picture has them."""
_KNOWN = 0.5
"""Share of a cell that must be picture for its mean to count."""
_CHUNK = 256
_FIRST_ITERATIONS, _ITERATIONS = 8, 3
"""Subspace iterations from random directions, and from the last fit's."""
_ROUNDS, _ROUNDS_FROM_MEANS = 2, 6
"""Times that crops are completed and components fitted anew: with whole crops to begin with, and without."""
_FEATHER = 1.5
"""Standard deviation in pixels of the border between picture and completion."""
_LEAST_NOISE = 1e-5


class _Components(NamedTuple):
    mean: Tensor
    """[d]"""
    basis: Tensor
    """[d, K]"""
    variances: Tensor
    """[K]"""
    noise: Tensor
    """Variance of each input beside the components, scalar."""


class Completion:
    """Fitted components, and the coefficients of each crop that was looked at, by its digest."""

    def __init__(self, components: _Components, coefficients: dict[bytes, Tensor] | None = None) -> None:
        self._components = components
        self._coefficients = coefficients or {}
        parts = b"".join(part.numpy().tobytes() for part in components)
        self.digest = hashlib.sha1(parts).digest()
        self._mean, self._basis = components.mean.numpy(), components.basis.numpy()

    @classmethod
    def fit(cls, faces: FaceSet, components: int, reporter: Reporter) -> "Completion":
        """Components of a training set; a picture that stands in it several times counts as often.

        Args:
            components: how many, at most as many as there are different pictures.
        """
        first: dict[bytes, int] = {}
        counts: dict[bytes, int] = {}
        for index in range(len(faces)):
            key = faces.digest(index)
            first.setdefault(key, index)
            counts[key] = counts.get(key, 0) + 1
        indices = list(first.values())
        weight = torch.tensor([float(counts[key]) for key in first])
        cells, known = _read_cells(faces, indices, reporter)
        count = min(components, len(indices), cells.shape[1] - 1)
        whole = known.all(1)
        generator = torch.Generator().manual_seed(0)
        start = torch.linalg.qr(torch.randn(cells.shape[1], count, generator=generator))[0]
        if int(whole.sum()) >= count:
            rounds, fitted = _ROUNDS, _principal(cells[whole], weight[whole], start, _FIRST_ITERATIONS)
        else:
            begun = _filled_with_means(cells, known, weight)
            rounds, fitted = _ROUNDS_FROM_MEANS, _principal(begun, weight, start, _FIRST_ITERATIONS)
        part = (~whole).nonzero().flatten()
        for _ in track(range(rounds if len(part) else 0), "completion", reporter):
            full = cells.clone()
            full[part] = _expect(cells[part], known[part], fitted)
            fitted = _principal(full, weight, fitted.basis, _ITERATIONS)
        return cls(fitted)

    def learn(self, faces: FaceSet, reporter: Reporter) -> int:
        """Find the coefficients of crops that are not all picture and were not looked at before; returns how many."""
        new = {faces.digest(i): i for i in range(len(faces)) if faces.is_partial(i)}
        missing = [(key, index) for key, index in new.items() if key not in self._coefficients]
        if missing:
            cells, known = _read_cells(faces, [index for _, index in missing], reporter)
            found = _coefficients(cells, known, self._components)
            for (key, _), row in zip(missing, found.half().float(), strict=True):  # as they are stored
                self._coefficients[key] = row
        return len(missing)

    def complete(self, image: np.ndarray, mask: np.ndarray, digest: bytes) -> np.ndarray:
        """A picture RGB uint8 [S, S, 3] completed where its mask uint8 [S, S] is 0.

        Pixels further inside the mask than the feathered border stay as they are, as does what lies more than 8 px
        beyond the canonical crop.
        """
        framed, inside = _frame(image), _frame(mask)
        cells, known = _cells(framed, inside)
        expected = (self._mean + self._basis @ self._coefficients[digest].numpy()).reshape(_CELLS, _CELLS, 3)
        small = np.where(known[..., None], cells, expected).astype(np.float32)
        large = np.clip((cv2.resize(small, (_FRAME, _FRAME), interpolation=cv2.INTER_CUBIC) + 1) * 128, 0, 255)
        kernel = np.ones((5, 5), np.uint8)
        core = cv2.erode(inside, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=(255,))
        share = cv2.GaussianBlur(core.astype(np.float32) / 255, (0, 0), _FEATHER)
        share = np.where(inside > 0, share, 0)[..., None]
        made = np.round(share * framed + (1 - share) * large).astype(np.uint8)
        result = image.copy()
        ours, theirs = _overlap(image.shape[0])
        result[ours, ours] = made[theirs, theirs]
        return result

    def save(self, path: Path) -> None:
        """Write components and coefficients, in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        keys = np.frombuffer(b"".join(self._coefficients), np.uint8).reshape(-1, hashlib.sha1().digest_size)
        save_weights(path, self._components._asdict() | {
            "digests": torch.from_numpy(keys.copy()),
            "coefficients": torch.stack(list(self._coefficients.values())).half(),
        })  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "Completion":
        """Read what `save` wrote.

        Raises:
            EdgeError: the file is damaged or of something else.
        """
        stored = load_weights(path)
        try:
            rows = zip(stored["digests"], stored["coefficients"], strict=True)
            known = {digest.numpy().tobytes(): row for digest, row in rows}
            return cls(_Components(*(stored[name] for name in _Components._fields)), known)
        except (KeyError, ValueError):
            raise EdgeError(f"{path} holds no completion; remove it, it is made again") from None


def complete_set(faces: FaceSet, fitted: FaceSet, components: int, path: Path, reporter: Reporter) -> None:
    """Complete the crops of a set that are not all picture, by components that a file holds.

    Args:
        fitted: the set that components are fitted to, if the file is not there.
        path: grows with the crops.
    """
    if not any(map(faces.is_partial, range(len(faces)))):
        return
    begun = path.exists()
    completion = Completion.load(path) if begun else Completion.fit(fitted, components, reporter)
    if completion.learn(faces, reporter) or not begun:
        completion.save(path)
    faces.completion = completion


def _overlap(side: int) -> tuple[slice, slice]:
    """Where a picture and the frame overlap: in the picture, and in the frame."""
    shift = (side - CROP) // 2 - (_FRAME - CROP) // 2
    first, last = max(0, shift), min(side, shift + _FRAME)
    return slice(first, last), slice(first - shift, last - shift)


def _frame(image: np.ndarray) -> np.ndarray:
    """The middle 144 px of a picture or mask; what it lacks is zero."""
    framed = np.zeros((_FRAME, _FRAME, *image.shape[2:]), image.dtype)
    ours, theirs = _overlap(image.shape[0])
    framed[theirs, theirs] = image[ours, ours]
    return framed


def _cells(framed: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of what is picture, float32 [36, 36, 3] in -1..1, and which of them count, bool [36, 36]."""
    shape = (_CELLS, _CELL, _CELLS, _CELL)
    weight = (inside > 0).astype(np.float32)
    share = weight.reshape(shape).mean((1, 3))
    sums = (framed * weight[..., None]).reshape(*shape, 3).mean((1, 3))
    return (sums / np.maximum(share, 1e-6)[..., None] / 128 - 1).astype(np.float32), share > _KNOWN


def _read_cells(faces: FaceSet, indices: Sequence[int], reporter: Reporter) -> tuple[Tensor, Tensor]:
    """Cells [n, 3888] of pictures, and which are known, bool [n, 1296]."""
    cells = torch.empty(len(indices), _CELLS * _CELLS * 3)
    known = torch.empty(len(indices), _CELLS * _CELLS, dtype=torch.bool)
    for row, index in enumerate(track(indices, "reading crops", reporter)):
        image, mask = faces.read(index)
        values, counts = _cells(_frame(image), _frame(mask))
        cells[row], known[row] = torch.from_numpy(values.ravel()), torch.from_numpy(counts.ravel())
    return cells, known


def _filled_with_means(cells: Tensor, known: Tensor, weight: Tensor) -> Tensor:
    """Cells of which those unknown are the mean of the known ones at their place, or of all places."""
    counts = known.repeat_interleave(3, 1) * weight[:, None]
    sums, total = (cells * counts).sum(0), counts.sum(0)
    everywhere = (sums.view(-1, 3).sum(0) / total.view(-1, 3).sum(0)).repeat(len(sums) // 3)
    mean = torch.where(total > 0, sums / total.clamp_min(1e-6), everywhere)
    return torch.where(counts > 0, cells, mean)


def _principal(cells: Tensor, weight: Tensor, basis: Tensor, iterations: int) -> _Components:
    """Principal components of crops and their mirror images, from a first basis [d, K], by subspace iteration."""
    share = weight / (2 * weight.sum())
    mean = sum(((part * some[:, None]).sum(0) for part, some in _both(cells, share)), torch.zeros(cells.shape[1]))
    for _ in range(iterations):
        product = torch.zeros_like(basis)
        for part, some in _both(cells, share):
            rows = (part - mean) * some.sqrt()[:, None]
            product += rows.t() @ (rows @ basis)
        basis = torch.linalg.qr(product)[0]
    covariance, energy = torch.zeros(basis.shape[1], basis.shape[1]), torch.zeros(())
    for part, some in _both(cells, share):
        rows = (part - mean) * some.sqrt()[:, None]
        seen = rows @ basis
        covariance += seen.t() @ seen
        energy += rows.square().sum()
    values, vectors = torch.linalg.eigh(covariance)
    noise = (energy - values.sum()) / (len(mean) - len(values))
    return _Components(mean, basis @ vectors.flip(1), values.flip(0).clamp_min(0), noise.clamp_min(_LEAST_NOISE))


def _both(cells: Tensor, share: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of the rows with their shares, each once as it is and once mirrored."""
    for part, some in zip(cells.split(4096), share.split(4096), strict=True):
        yield part, some
        yield part.view(-1, _CELLS, _CELLS, 3).flip(2).flatten(1), some


def _coefficients(cells: Tensor, known: Tensor, fitted: _Components) -> Tensor:
    """Conditional means of the components [n, K] given the known cells."""
    mean, basis, variances, noise = fitted
    width = basis.shape[1]
    by_cell = basis.view(-1, 3, width)
    products = torch.einsum("pck,pcl->pkl", by_cell, by_cell).flatten(1)
    prior = torch.diag(noise / torch.maximum(variances, noise * 1e-2))
    found = []
    for part, mask in zip(cells.split(_CHUNK), known.split(_CHUNK), strict=True):
        precision = (mask.float() @ products).view(-1, width, width) + prior
        seen = ((part - mean) * mask.repeat_interleave(3, 1)) @ basis
        # Cholesky, since batched LU is wrong in some builds of MKL
        found.append(torch.cholesky_solve(seen.unsqueeze(-1), torch.linalg.cholesky(precision)).squeeze(-1))
    return torch.cat(found) if found else torch.zeros(0, width)


def _expect(cells: Tensor, known: Tensor, fitted: _Components) -> Tensor:
    """Cells [n, d] of which the unknown ones are what the components expect."""
    expected = fitted.mean + _coefficients(cells, known, fitted) @ fitted.basis.t()
    return torch.where(known.repeat_interleave(3, 1), cells, expected)
