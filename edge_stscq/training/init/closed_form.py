"""The codec's tables in closed form: components, codebooks and their groups, before any network trains.

Identity components are the principal components of a recognizer's embeddings, spatial ones those of small pictures with
what is no picture completed (`data/completion.py`). Both are dealt out to tokens so that every token carries a
similar product of variances, and scaled by a power of two for each token, so that all tokens share one integer grid.

Groups share a codebook at each position and differ by a mean and a scale, `books[m, t, k] = mean[m, t] + scale[m, t] *
shared[t, k]`: free codebooks of many groups learn the training faces by heart.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from edge_stscq.codec.identity import allocate, normalize
from edge_stscq.codec.integer.encoder import TOKEN_STEP, TokenEncoder, on_token_grid
from edge_stscq.codec.integer.grid import SIGNED
from edge_stscq.config.codec import EMBEDDING, CodecConfig
from edge_stscq.training.init.kmeans import lloyd, nearest, random_entries

_HEADROOM = 4.0
"""Standard deviations of a token's strongest component that fit the grid on either side."""
_REGROUP = 3
"""Rounds of fitting codebooks and choosing groups anew."""


class Components(NamedTuple):
    """A linear map from n inputs to C components, `(x - mean) @ basis`."""

    mean: Tensor
    """[n]"""
    basis: Tensor
    """[n, C]"""
    deviations: Tensor
    """[C], standard deviations of the components on the training set."""


def principal_components(
    x: Tensor, count: int, weight: Tensor | None = None, importance: Tensor | None = None
) -> Components:
    """Principal components of x [N, n], strongest first.

    Args:
        weight: how often each row counts, [N].
        importance: how much each input's squared error counts, [n].
    """
    share = torch.full((len(x),), 1 / len(x)) if weight is None else weight / weight.sum()
    scale = torch.ones(x.shape[1]) if importance is None else importance.sqrt()
    mean = (x * share[:, None]).sum(0)

    def centered(rows: Tensor, part: Tensor) -> Tensor:
        return (rows - mean) * scale * part.sqrt()[:, None]

    if count <= len(x) < x.shape[1]:  # of few rows: seconds less than by the covariance of thousands of inputs
        _, singular, transposed = torch.linalg.svd(centered(x, share), full_matrices=False)
        values, vectors = singular.square(), transposed.t()
    else:
        covariance = torch.zeros(x.shape[1], x.shape[1])
        for rows, part in zip(x.split(4096), share.split(4096), strict=True):
            weighted = centered(rows, part)
            covariance += weighted.t() @ weighted
        values, vectors = torch.linalg.eigh(covariance)
        values, vectors = values.flip(0), vectors.flip(1)
    values, vectors = values[:count], vectors[:, :count]
    vectors = vectors * vectors.abs().amax(0).eq(vectors.amax(0)).float().mul(2).sub(1)  # a sign convention
    return Components(mean, vectors * scale[:, None], values.clamp_min(1e-12).sqrt())


def kmeans(
    z: Tensor,
    entries: int,
    iterations: int,
    generator: torch.Generator,
    weight: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """Codebooks [T, K, D] of vectors z [n, T, D], from random ones of them.

    Args:
        weight: how often each row counts, [n].
        scale: by which vectors were divided, [n, T, 1]: their squared errors count by its square.
    """
    mass = (torch.ones(len(z)) if weight is None else weight)[:, None].expand(-1, z.shape[1])
    if scale is not None:
        mass = mass * scale[..., 0].square()
    return lloyd(random_entries(z, entries, generator), z, iterations, generator, mass)


class GroupedBooks(NamedTuple):
    """Codebooks of M groups, and the group of each training vector."""

    books: Tensor
    """[M, T, K, D]"""
    group: Tensor
    """int64 [n]"""


class BookFit(NamedTuple):
    """Settings of the fit of codebooks."""

    iterations: int
    """Of k-means."""
    seed: int
    free: bool = False
    """A codebook for each group and position, as published, instead of shared entries with a mean and a scale."""


def fit_codebooks(z: Tensor, config: CodecConfig, plan: BookFit, weight: Tensor | None = None) -> GroupedBooks:
    """Codebooks of vectors z [n, T, D]; groups are those that fit the identity tokens of the first layer best.

    Entries beyond a layer's share (`LayerConfig.entries`) are copies of the first, which never win the search, since
    the lowest index wins a tie. All entries lie on the grid of token vectors.

    Args:
        weight: how often each row counts, [n].
    """
    generator = torch.Generator().manual_seed(plan.seed)
    mass = torch.ones(len(z)) if weight is None else weight
    if not config.token_specific:  # the control: one group, one codebook for all positions
        rows = mass.repeat_interleave(z.shape[1])
        shared = kmeans(z.flatten(0, 1)[:, None], config.entries, plan.iterations, generator, rows)
        return GroupedBooks(on_token_grid(shared)[None], torch.zeros(len(z), dtype=torch.long))
    first = config.layers[0]
    group = _fit_groups(z[:, : first.identity], config, plan, mass, generator)
    books, start = [], 0
    for layer, end in zip(config.layers, config.layer_ends, strict=True):
        entries = layer.entries or config.entries
        fitted = on_token_grid(_books(z[:, start:end], group, config.groups, entries, plan, mass, generator))
        books.append(torch.cat([fitted, fitted[:, :, :1].expand(-1, -1, config.entries - entries, -1)], dim=2))
        start = end
    return GroupedBooks(torch.cat(books, dim=1), group)


def _fit_groups(z: Tensor, config: CodecConfig, plan: BookFit, mass: Tensor, generator: torch.Generator) -> Tensor:
    """Groups int64 [n] of the first layer's identity vectors z [n, T, D]: k-means, then the nearest codebooks."""
    if config.groups == 1:
        return torch.zeros(len(z), dtype=torch.long)
    whole = z.reshape(len(z), 1, -1)
    group = nearest(kmeans(whole, config.groups, plan.iterations, generator, mass), whole)[0].flatten()
    for _ in range(_REGROUP):
        entries = config.layers[0].entries or config.entries
        books = _books(z, group, config.groups, entries, plan, mass, generator)
        group = torch.stack([nearest(book, z)[1].sum(1) for book in books], dim=1).argmin(1)
    return group


def _books(
    z: Tensor, group: Tensor, groups: int, entries: int, plan: BookFit, mass: Tensor, generator: torch.Generator
) -> Tensor:
    """Codebooks [M, T, K, D] of vectors z [n, T, D] in their groups."""
    if groups == 1:
        return kmeans(z, entries, plan.iterations, generator, mass)[None]
    if plan.free:
        books = []
        for m in range(groups):
            members = group == m
            if int(members.sum()) < entries:  # a group that hardly any face uses is fitted to all of them
                members = torch.ones_like(members)
            books.append(kmeans(z[members], entries, plan.iterations, generator, mass[members]))
        return torch.stack(books)
    mean, scale = _moments(z, group, groups, mass)
    unit = (z - mean[group]) / scale[group]
    spread = scale[group].square().mean(-1, keepdim=True).sqrt()
    shared = kmeans(unit, entries, plan.iterations, generator, mass, spread)
    return mean[:, :, None] + scale[:, :, None] * shared


def _moments(z: Tensor, group: Tensor, groups: int, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [M, T, D] of each group, drawn a little towards those of all."""
    prior = 100.0
    mean = (z * mass[:, None, None]).sum(0) / mass.sum()
    variance = ((z - mean).square() * mass[:, None, None]).sum(0) / mass.sum()
    means, deviations = [], []
    for m in range(groups):
        part, share = z[group == m], mass[group == m]
        total = share.sum()
        own = ((part * share[:, None, None]).sum(0) + prior * mean) / (total + prior)
        spread = (((part - own).square() * share[:, None, None]).sum(0) + prior * variance) / (total + prior)
        means.append(own)
        deviations.append(spread.clamp_min(1e-8).sqrt())
    return torch.stack(means), torch.stack(deviations)


def signal_to_noise(books: Tensor, z: Tensor, identity: int) -> tuple[float, float]:
    """Signal to quantization noise in dB of z [n, T, D]: of the first `identity` tokens, and of all."""
    errors = torch.stack([nearest(book[:identity], z[:, :identity])[1].sum(1) for book in books], dim=1)
    group = errors.argmin(1)
    noise = torch.zeros(z.shape[1])
    for m, book in enumerate(books):
        noise += nearest(book, z[group == m])[1].sum(0)
    signal = (z - z.mean(0)).square().sum((0, 2))
    ratio = lambda part: 10 * math.log10(float(signal[part].sum() / noise[part].sum()))  # noqa: E731
    return ratio(slice(0, identity)), ratio(slice(0, None))


@torch.no_grad()
def set_components(encoder: TokenEncoder, embeddings: Tensor, typical: Tensor, pictures: Components) -> None:
    """Set what an encoder's components mean and where they go, in place.

    Args:
        embeddings: raw embeddings [N, 128] of a training set, and of faces as cameras see them, `typical` [n, 128].
        pictures: principal components of thumbnails, flattened [3 * 32 * 32].
    """
    config = encoder.config
    encoder.head.fit(embeddings, typical)
    columns = encoder.head.projection.abs().sum(0).view(config.identity_tokens, config.dim) > 0
    spread = (normalize(embeddings) - encoder.head.mean) @ encoder.head.projection
    encoder.head.projection.mul_(_gain(spread.std(0).max()))
    slots = torch.full((config.tokens, config.dim), encoder.layout.zero)
    identity = torch.full_like(slots[: config.identity_tokens], encoder.layout.zero)
    identity[columns] = torch.arange(EMBEDDING)
    slots[encoder.layout.is_identity] = identity
    position, first = 0, 0
    gains = torch.ones(config.spatial_components)
    spatial = slots[~encoder.layout.is_identity]
    for layer in config.layers:
        if not layer.spatial:
            continue
        deviations = pictures.deviations[first : first + layer.spatial_dims]
        per_token = math.ceil(layer.spatial_dims / layer.spatial)
        for bucket in allocate(deviations.square().tolist(), layer.spatial, per_token):
            members = [first + index for index in bucket]
            spatial[position, : len(bucket)] = torch.tensor(members) + EMBEDDING
            gains[members] = _gain(pictures.deviations[members].max())
            position += 1
        first += layer.spatial_dims
    slots[~encoder.layout.is_identity] = spatial
    encoder.layout.slots.copy_(slots.flatten())
    transform = encoder.spatial.transform
    weight = (pictures.basis[:, : config.spatial_components] * gains).t()
    transform.weight.copy_(weight.view_as(transform.weight))
    transform.bias.copy_(-(weight @ pictures.mean))
    transform.fit_weight_steps()


def _gain(deviation: Tensor) -> float:
    """Power of two by which a component of this deviation fits the grid of token vectors."""
    limit = -SIGNED[0] * TOKEN_STEP / _HEADROOM
    return float(2.0 ** math.floor(math.log2(limit / float(deviation))))
