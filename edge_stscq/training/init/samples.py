"""Samples of a training set: different crops, their thumbnails, their token vectors and tokens."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edge_stscq._reporter import Reporter, track
from edge_stscq.codec.codebooks import SwitchedCodebooks
from edge_stscq.codec.encoder import normalize_image
from edge_stscq.codec.integer.encoder import THUMBNAIL, ReferenceEncoder, TokenEncoder
from edge_stscq.codec.integer.grid import INPUT_STEP
from edge_stscq.codec.pooling import face_density
from edge_stscq.config.codec import CodecConfig
from edge_stscq.data.loader import FaceSet
from edge_stscq.stream.tables import Tables
from edge_stscq.training.init.closed_form import principal_components, set_components

_BATCH = 64


class Sample(NamedTuple):
    """Different crops of a training set."""

    chosen: list[int]
    weight: Tensor
    """Times that each counts, [n]."""


def draw_sample(faces: FaceSet, count: int) -> Sample:
    """`count` evenly spread crops; one that stands in the set several times is drawn once and counts more."""
    counts: dict[bytes, list[int]] = {}
    for index in np.linspace(0, len(faces) - 1, min(count, len(faces))).astype(np.int64).tolist():
        counts.setdefault(faces.digest(index), []).append(index)
    return Sample([same[0] for same in counts.values()], torch.tensor([float(len(same)) for same in counts.values()]))


def batches(faces: FaceSet, indices: list[int], title: str, reporter: Reporter) -> Iterator[Tensor]:
    """Crops uint8 [2 n, 128, 128, 3], each followed by its mirror image."""
    for start in track(range(0, len(indices), _BATCH), title, reporter):
        crops = [faces.crop(index) for index in indices[start : start + _BATCH]]
        yield torch.from_numpy(np.stack([view for crop in crops for view in (crop, crop[:, ::-1])]))


def read_thumbnails(faces: FaceSet, indices: list[int], reporter: Reporter) -> Tensor:
    """Thumbnails [2 N, 3, 32, 32] in -1..1 of crops, each followed by its mirror image; not rounded."""
    return torch.cat([
        functional.interpolate(normalize_image(crops), size=THUMBNAIL, mode="area")
        for crops in batches(faces, indices, "thumbnails", reporter)
    ])  # fmt: skip


@torch.no_grad()
def fit_components(
    encoder: ReferenceEncoder, embeddings: Tensor, typical: Tensor, thumbnails: Tensor, weight: Tensor
) -> Tensor:
    """Set an encoder's components by a training set, in place; returns its token vectors [n, T, D].

    Half of the weight of a pixel is even, half follows the landmarks.

    Args:
        embeddings: raw embeddings [n, 128] of the same pictures as `thumbnails` [n, 3, 32, 32].
        typical: raw embeddings of faces as cameras see them.
        weight: how often each counts, [n].
    """
    density = face_density(THUMBNAIL).flatten()
    importance = (0.5 + 0.5 * density / density.mean()).repeat(3)
    count = encoder.config.spatial_components
    pictures = principal_components(thumbnails.flatten(1), max(1, count), weight, importance)
    set_components(encoder, embeddings, typical, pictures)
    exponent = encoder.spatial.shrink.output_exponent
    spatial = [
        encoder.spatial.transform((part / INPUT_STEP).round() * INPUT_STEP, exponent)[0].flatten(1)
        for part in thumbnails.split(512)
    ]
    z: Tensor = encoder.layout(encoder.components_of(embeddings), torch.cat(spatial))
    return z


class Coded(NamedTuple):
    """Tokens of n pictures and what they stand for."""

    group: Tensor
    """int64 [n]"""
    tokens: Tensor
    """int64 [n, T]"""
    words: Tensor
    """Codewords [n, T, D]."""


@torch.no_grad()
def code(encoder: TokenEncoder, z: Tensor) -> Coded:
    """Tokens of token vectors z [n, T, D]."""
    books: SwitchedCodebooks = encoder.codebooks
    parts = []
    for part in z.split(256):
        group = encoder.choose(part)
        tokens = books.nearness(part, group).argmin(-1)
        parts.append((group, tokens, books.lookup(group, tokens)))
    return Coded(*(torch.cat(column) for column in zip(*parts, strict=True)))


@torch.no_grad()
def code_pictures(
    encoder: TokenEncoder, faces: FaceSet, indices: list[int], reporter: Reporter, device: torch.device
) -> Coded:
    """Tokens of crops and their mirror images, as an encoder gives them."""
    encoder.to(device)
    z = torch.cat([encoder.vectors(crops.to(device)).cpu() for crops in batches(faces, indices, "tokens", reporter)])
    return code(encoder.cpu(), z)


def count_tables(config: CodecConfig, coded: Coded, weight: Tensor) -> Tables:
    """Frequency tables of tokens, each picture counted as often as `weight` [n] says."""
    shape = (config.groups, config.tokens, config.entries)
    place = coded.group[:, None] * config.tokens + torch.arange(config.tokens)
    mass = weight.double()[:, None].expand(-1, config.tokens)
    counts = torch.bincount((place * config.entries + coded.tokens).flatten(), mass.flatten(), int(np.prod(shape)))
    groups = torch.bincount(coded.group, weight.double(), config.groups)
    return Tables.from_counts(counts.view(shape).numpy(), groups.numpy(), config.layer_ends)
