"""What an integer codec is before any network trains: components, codebooks, frequency tables and a first decoder."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional

from edge_stscq.codec import store
from edge_stscq.codec.codebooks import SwitchedCodebooks
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import normalise_image
from edge_stscq.codec.grid import INPUT_STEP
from edge_stscq.codec.integer_encoder import THUMBNAIL, ReferenceEncoder, TokenEncoder
from edge_stscq.codec.pooling import face_density
from edge_stscq.config.codec import CodecConfig
from edge_stscq.data.loader import FaceSet
from edge_stscq.errors import EdgeError
from edge_stscq.stream.tables import Tables
from edge_stscq.training.init.closed_form import principal_components, set_components
from edge_stscq.training.init.linear import fit_sketch
from edge_stscq.training.init.transfer import translate_decoder

_BATCH = 64
_TRANSLATED = 4000
"""Faces by which a style is translated from one model's codewords to another's."""
TRAINING = "training"
"""Folder of a model with what its training goes on from, in float16."""


class Sample(NamedTuple):
    """Different crops of a training set."""

    chosen: list[int]
    weight: Tensor
    """How often each counts, [n]."""


def draw_sample(faces: FaceSet, count: int) -> Sample:
    """`count` evenly spread crops; one that stands in the set several times is drawn once and counts more."""
    counts: dict[bytes, list[int]] = {}
    for index in np.linspace(0, len(faces) - 1, min(count, len(faces))).astype(np.int64).tolist():
        counts.setdefault(faces.digest(index), []).append(index)
    return Sample([same[0] for same in counts.values()], torch.tensor([float(len(same)) for same in counts.values()]))


def batches(faces: FaceSet, indices: list[int], progress: Progress, title: str) -> Iterator[Tensor]:
    """Crops uint8 [2 n, 128, 128, 3], each followed by its mirror image."""
    for start in progress.track(range(0, len(indices), _BATCH), description=title):
        crops = [faces.crop(index) for index in indices[start : start + _BATCH]]
        yield torch.from_numpy(np.stack([view for crop in crops for view in (crop, crop[:, ::-1])]))


def read_thumbnails(faces: FaceSet, indices: list[int], progress: Progress) -> Tensor:
    """Thumbnails [2 N, 3, 32, 32] in -1..1 of crops, each followed by its mirror image; not rounded."""
    return torch.cat([
        functional.interpolate(normalise_image(crops), size=THUMBNAIL, mode="area")
        for crops in batches(faces, indices, progress, "thumbnails")
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
    encoder: TokenEncoder, faces: FaceSet, indices: list[int], progress: Progress, device: torch.device
) -> Coded:
    """Tokens of crops and their mirror images, as an encoder gives them."""
    encoder.to(device)
    z = torch.cat([encoder.vectors(crops.to(device)).cpu() for crops in batches(faces, indices, progress, "tokens")])
    return code(encoder.cpu(), z)


def count_tables(config: CodecConfig, coded: Coded, weight: Tensor) -> Tables:
    """Frequency tables of tokens, each picture counted as often as `weight` [n] says."""
    shape = (config.groups, config.tokens, config.entries)
    place = coded.group[:, None] * config.tokens + torch.arange(config.tokens)
    mass = weight.double()[:, None].expand(-1, config.tokens)
    counts = torch.bincount((place * config.entries + coded.tokens).flatten(), mass.flatten(), int(np.prod(shape)))
    groups = torch.bincount(coded.group, weight.double(), config.groups)
    return Tables.from_counts(counts.view(shape).numpy(), groups.numpy(), config.layer_ends)


def load_training(folder: Path, decoder: Decoder) -> dict[str, Tensor] | None:
    """Bring a model's decoder to where its training stopped, in place; returns the critic's heads, if it has any.

    Raises:
        EdgeError: the file is of another decoder.
    """
    average, heads = folder / TRAINING / "decoder.safetensors", folder / TRAINING / "critic.safetensors"
    if average.exists():
        state = decoder.state_dict()
        kept = store.load_weights(average)
        if unknown := kept.keys() - state.keys():
            raise EdgeError(f"{average} does not fit the decoder beside it: it has {min(unknown)}; remove the folder")
        try:
            decoder.load_state_dict(state | kept)
        except RuntimeError as error:
            raise EdgeError(f"{average} does not fit: {str(error).splitlines()[-1].strip()}") from None
    return store.load_weights(heads) if heads.exists() else None


@torch.no_grad()
def first_decoder(
    encoder: ReferenceEncoder, coded: Coded, thumbnails: Tensor, start: Path | None, faces: FaceSet,
    indices: list[int], progress: Progress, device: torch.device,
) -> Decoder:  # fmt: skip
    """A decoder with sketches for an encoder's codewords; its networks are those of a model to start from.

    Args:
        coded, thumbnails: of `indices`, each followed by its mirror image.

    Raises:
        EdgeError: the decoder to start from has other widths.
    """
    decoder = Decoder(encoder.config)
    decoder.codebooks.books.copy_(encoder.codebooks.books)
    if start is not None:
        earlier = store.load_decoder(start)
        load_training(start, earlier)
        same = earlier.config.layers == encoder.config.layers
        if same and torch.equal(earlier.codebooks.books, encoder.codebooks.books):
            decoder.load_state_dict(earlier.state_dict())
            return decoder
        device_encoder = store.load_student(start).to(device)
        step = max(1, len(indices) // _TRANSLATED)
        words = []
        for crops in batches(faces, indices[::step], progress, "tokens of the model to start from"):
            seen = device_encoder.analyse(crops[::2].to(device))
            words.append(device_encoder.codebooks.lookup(seen.group, seen.tokens).cpu())
        try:
            translate_decoder(decoder, earlier, coded.words[::2][::step], torch.cat(words))
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise EdgeError(f"the decoder of {start} does not fit the recipe's: {reason}; leave --start out") from None
    fit_sketch(decoder, coded.words, thumbnails)
    return decoder
