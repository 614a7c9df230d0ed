"""The codec's tables in closed form: components, codebooks and their groups, before any network trains.

Identity components are the principal components of a recognizer's embeddings, spatial ones those of small pictures with
what is no picture completed (`training/completion.py`). Both are dealt out to tokens so that every token carries a
similar product of variances, and scaled by a power of two for each token, so that all tokens share one integer grid.

Groups share a codebook at each position and differ by a mean and a scale, `books[m, t, k] = mean[m, t] + scale[m, t] *
shared[t, k]`: free codebooks of many groups learn the training faces by heart.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from edge_stscq.codec.config import CodecConfig
from edge_stscq.codec.identity import allocate
from edge_stscq.codec.integer_encoder import TOKEN_STEP, on_token_grid

_HEADROOM = 4.0
"""Standard deviations of a token's strongest component that fit the grid on either side."""
_CHUNK = 512


class Components(NamedTuple):
    """A linear map from n inputs to C components, `(x - mean) @ basis`."""

    mean: Tensor
    """[n]"""
    basis: Tensor
    """[n, C]"""
    deviations: Tensor
    """[C], standard deviations of the components on the training set."""


def principal_components(x: Tensor, count: int, weight: Tensor | None = None, importance: Tensor | None = None) -> Components:
    """Principal components of x [N, n], strongest first.

    Args:
        weight: how often each row counts, [N].
        importance: how much each input's squared error counts, [n].
    """
    share = torch.full((len(x),), 1 / len(x)) if weight is None else weight / weight.sum()
    scale = torch.ones(x.shape[1]) if importance is None else importance.sqrt()
    mean = (x * share[:, None]).sum(0)
    covariance = torch.zeros(x.shape[1], x.shape[1])
    for rows, part in zip(x.split(4096), share.split(4096), strict=True):
        centred = (rows - mean) * scale * part.sqrt()[:, None]
        covariance += centred.t() @ centred
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
    vectors = vectors * vectors.abs().amax(0).eq(vectors.amax(0)).float().mul(2).sub(1)  # a sign convention
    return Components(mean, vectors * scale[:, None], values.clamp_min(1e-12).sqrt())


def deal(config: CodecConfig, identity: Tensor, spatial: Tensor) -> tuple[Tensor, Tensor]:
    """Slots and gains of all components, given their deviations [128] and [C].

    Returns:
        Slots int64 [T * D] (`TokenLayout.slots`) and the power of two [128 + C] that each component is multiplied by.
    """
    unused = len(identity) + len(spatial)
    slots = torch.full((config.tokens, config.dim), unused)
    gains = torch.ones(unused)
    deviations = torch.cat([identity, spatial])
    position, taken = 0, [0, len(identity)]
    limit = -TOKEN_STEP * -128 / _HEADROOM
    strongest = identity.max()
    for layer in config.layers:
        for kind, tokens, dims in ((0, layer.identity, layer.identity_dims), (1, layer.spatial, layer.spatial_dims)):
            first = taken[kind]
            spread = deviations[first : first + dims]
            per_token = math.ceil(dims / tokens) if tokens else 0
            for bucket in allocate(spread.square().tolist(), tokens, per_token):
                slots[position, : len(bucket)] = torch.tensor([first + index for index in bucket])
                # identity vectors are compared with each other, so that they share one gain
                largest = strongest if kind == 0 else spread[bucket].max()
                gains[[first + index for index in bucket]] = 2.0 ** math.floor(math.log2(limit / float(largest)))
                position += 1
            taken[kind] += dims
    return slots.flatten(), gains


def nearest(books: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest entries int64 [n, T] of z [n, T, D] in codebooks [T, K, D], and the squared distances [n, T]."""
    energy = books.square().sum(-1)
    found, distance = [], []
    for part in z.split(_CHUNK):
        scores = energy - 2 * torch.matmul(part.transpose(0, 1), books.transpose(1, 2)).transpose(0, 1)
        least, index = scores.min(-1)
        found.append(index)
        distance.append(least + part.square().sum(-1))
    return torch.cat(found), torch.cat(distance)


def kmeans(
    z: Tensor, entries: int, iterations: int, generator: torch.Generator, weight: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """Codebooks [T, K, D] of vectors z [n, T, D] by Lloyd's algorithm; empty entries are re-seeded.

    Args:
        weight: how often each row counts, [n].
        scale: by which vectors were divided, [n, T, 1]: their squared errors count by its square.
    """
    count, tokens, dim = z.shape
    picks = torch.randperm(count, generator=generator)[:entries]
    books = z[picks].transpose(0, 1).clone()
    offsets = torch.arange(tokens) * entries
    mass = (torch.ones(count) if weight is None else weight)[:, None].expand(-1, tokens)
    if scale is not None:
        mass = mass * scale[..., 0].square()
    for _ in range(iterations):
        chosen, _ = nearest(books, z)
        flat = (chosen + offsets).flatten()
        total = torch.zeros(tokens * entries).index_add_(0, flat, mass.flatten())
        sums = torch.zeros(tokens * entries, dim).index_add_(0, flat, (z * mass[..., None]).flatten(0, 1))
        books = (sums / total.clamp_min(1e-9)[:, None]).view(tokens, entries, dim)
        for t, k in (total.view(tokens, entries) == 0).nonzero().tolist():
            books[t, k] = z[int(torch.randint(count, (), generator=generator)), t]
    return books


class GroupedBooks(NamedTuple):
    """Codebooks of M groups that share entries, and the group of each training vector."""

    books: Tensor
    """[M, T, K, D]"""
    group: Tensor
    """int64 [n]"""


def fit_groups(
    z: Tensor, groups: int, entries: int, identity: int, iterations: int, seed: int, weight: Tensor | None = None,
    free: bool = False,
) -> GroupedBooks:  # fmt: skip
    """Codebooks of vectors z [n, T, D] in `groups` groups, chosen by the fit of the first `identity` tokens.

    Args:
        free: a codebook for each group and position, as published, instead of shared entries with a mean and scale.
    """
    generator = torch.Generator().manual_seed(seed)
    mass = torch.ones(len(z)) if weight is None else weight
    if groups == 1:
        return GroupedBooks(kmeans(z, entries, iterations, generator, mass)[None], torch.zeros(len(z), dtype=torch.long))
    whole = z[:, :identity].reshape(len(z), 1, -1)
    centres = kmeans(whole, groups, iterations, generator, mass)
    group = nearest(centres, whole)[0].flatten()
    books = torch.zeros(groups, *z.shape[1:2], entries, z.shape[2])
    for _ in range(3):
        if free:
            for m in range(groups):
                books[m] = kmeans(z[group == m], entries, iterations, generator, mass[group == m])
        else:
            mean, scale = _moments(z, group, groups, mass)
            unit = (z - mean[group]) / scale[group]
            shared = kmeans(unit, entries, iterations, generator, mass, scale[group].mean(-1, keepdim=True))
            books = mean[:, :, None] + scale[:, :, None] * shared
        errors = torch.stack([nearest(books[m, :identity], z[:, :identity])[1].sum(1) for m in range(groups)], dim=1)
        group = errors.argmin(1)
    return GroupedBooks(books, group)


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


def settle_on_grid(books: Tensor, config: CodecConfig) -> Tensor:
    """Codebooks on the grid of token vectors, entries beyond a layer's share replaced by copies of the first.

    A copy never wins the search, since the lowest index wins a tie.
    """
    books = on_token_grid(books)
    start = 0
    for layer, end in zip(config.layers, config.layer_ends, strict=True):
        if layer.entries is not None:
            books[:, start:end, layer.entries :] = books[:, start:end, :1]
        start = end
    return books
