"""Entropy models of tokens that are measured by `benchmarks.codec.entropy`; each gives bits `[N, T]` of each token.

What a token may depend on is a mask over positions: the layers below its own, or also the positions before it.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq.stream import Codes

BOTTOM = 1e-6
VARIES = 2e-3
"""Least standard deviation of a component that a density is fitted to."""
WIDTH, HEADS, BLOCKS = 32, 4, 2


@dataclass(frozen=True)
class Tokens:
    """Group int64 `[N]`, tokens int64 `[N, T]` and their codewords `[N, T, D]`."""

    group: Tensor
    tokens: Tensor
    words: Tensor

    @classmethod
    def of(cls, codes: Codes, books: Tensor) -> "Tokens":
        """Those of codes, by books `[M, T, K, D]`."""
        group, tokens = torch.from_numpy(codes.group).long(), torch.from_numpy(codes.tokens).long()
        return cls(group, tokens, books[group[:, None], torch.arange(tokens.shape[1]), tokens])

    def __len__(self) -> int:
        return len(self.group)

    def __getitem__(self, rows: slice | Tensor) -> "Tokens":
        return Tokens(self.group[rows], self.tokens[rows], self.words[rows])


def layer_of(ends: Sequence[int]) -> Tensor:
    """Layer of each position, int64 `[T]`."""
    return torch.bucketize(torch.arange(ends[-1]), torch.tensor(ends), right=True)


@dataclass(frozen=True)
class Counts:
    """Tables of counts."""

    logs: Tensor
    """log2 of probabilities `[M, T, K]`."""

    @classmethod
    def fit(cls, faces: Tokens, entries: int) -> "Counts":
        """One table a group and position, each count raised by one half."""
        seen = _count(faces.group, faces.tokens, int(faces.group.max()) + 1, entries) + 0.5
        return cls((seen / seen.sum(-1, keepdim=True)).log2())

    def static(self, faces: Tokens) -> Tensor:
        """Bits of tokens by group alone."""
        return -self.logs[faces.group].gather(2, faces.tokens[..., None])[..., 0]

    @staticmethod
    def given_lower(train: Tokens, test: Tokens, own: Tensor, ends: Sequence[int], cells: int) -> tuple[Tensor, int]:
        """Bits by tables of group and cell, smoothed by the model's own tables; and how many frequencies they are.

        The lower layers' vectors are told apart by the k-means cell that they lie in.
        """
        groups, _, entries = own.shape
        bits = -own[test.group].gather(2, test.tokens[..., None])[..., 0]
        size = own.numel()
        for start, end in zip(ends, ends[1:], strict=False):
            seen, asked = train.words[:, :start].flatten(1), test.words[:, :start].flatten(1)
            centers = _kmeans(seen, cells)
            place = train.group * cells + torch.cdist(seen, centers).argmin(1)
            where = test.group * cells + torch.cdist(asked, centers).argmin(1)
            counts = _count(place, train.tokens[:, start:end], groups * cells, entries)
            prior = own[:, start:end].exp2().repeat_interleave(cells, 0) * entries
            p = (counts + prior) / (counts + prior).sum(-1, keepdim=True)
            bits[:, start:end] = -p.log2()[where].gather(2, test.tokens[:, start:end, None])[..., 0]
            size += p.numel() - own[:, start:end].numel()
        return bits, size


def _count(place: Tensor, tokens: Tensor, places: int, entries: int) -> Tensor:
    positions = tokens.shape[1]
    flat = (place[:, None] * positions + torch.arange(positions)) * entries + tokens
    return (
        torch.bincount(flat.flatten(), minlength=places * positions * entries).view(places, positions, entries).float()
    )


def _kmeans(points: Tensor, cells: int) -> Tensor:
    centers = points[:: len(points) // cells][:cells].clone()
    for _ in range(20):
        nearest = torch.cdist(points, centers).argmin(1)
        for cell in range(cells):
            if (mine := nearest == cell).any():
                centers[cell] = points[mine].mean(0)
    return centers


class _OfCodewords(nn.Module):
    """Softmax over the codewords of a position: its own table, tilted by a linear and a square form of the codeword."""

    own: Tensor
    books: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, own: Tensor, books: Tensor) -> None:
        super().__init__()
        weight = own.exp2()[..., None]
        mean = (weight * books).sum(2).mean(0)
        scale = ((weight * (books - mean[:, None]).square()).sum(2).mean(0) + BOTTOM).sqrt()
        self.register_buffer("own", own * math.log(2), persistent=False)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        unit = (books - mean[:, None]) / scale[:, None]
        self.register_buffer("books", torch.cat([unit, unit.square()], -1), persistent=False)

    def unit(self, faces: Tokens) -> Tensor:
        """Codewords `[N, T, D]` with mean 0 and variance 1."""
        return (faces.words - self.mean) / self.scale

    def bits(self, tilt: Tensor, faces: Tokens) -> Tensor:
        """Bits of tokens by tilts `[N, T, 2 D]`."""
        out = torch.empty(faces.tokens.shape)
        for group in range(len(self.own)):
            rows = (faces.group == group).nonzero()[:, 0]
            scores = torch.einsum("ntd,tkd->ntk", tilt[rows], self.books[group]) + self.own[group]
            nats = functional.cross_entropy(scores.flatten(0, 1), faces.tokens[rows].flatten(), reduction="none")
            out = out.index_copy(0, rows, nats.view(len(rows), -1) / math.log(2))
        return out


class LinearSoftmax(_OfCodewords):
    """Tilt linear in the codewords of the lower layers; with `within`, of all positions before."""

    allowed: Tensor

    def __init__(self, own: Tensor, books: Tensor, ends: Sequence[int], within: bool = False) -> None:
        super().__init__(own, books)
        groups, positions, _, dim = books.shape
        layer, place = layer_of(ends), torch.arange(positions)
        allowed = place[:, None] > place if within else layer[:, None] > layer
        mask = allowed.repeat_interleave(2 * dim, 0).repeat_interleave(dim, 1)
        self.register_buffer("allowed", mask.float(), persistent=False)
        self.weight = nn.Parameter(torch.zeros(mask.shape))
        self.bias = nn.Parameter(torch.zeros(groups, positions, 2 * dim))

    def forward(self, faces: Tokens) -> Tensor:
        tilt = functional.linear(self.unit(faces).flatten(1), self.weight * self.allowed)
        return self.bits(tilt.view(len(faces), *self.bias.shape[1:]) + self.bias[faces.group], faces)


class TokenTransformer(_OfCodewords):
    """Transformer masked over layers: positions ask, and what answers are the codewords of lower layers.

    Codewords see their own layer and those below; a question sees the codewords below its layer and itself.
    """

    blocked: Tensor

    def __init__(self, own: Tensor, books: Tensor, ends: Sequence[int]) -> None:
        super().__init__(own, books)
        groups, positions, _, dim = books.shape
        below = ends[-2] if len(ends) > 1 else 0
        self.below, layer = below, layer_of(ends)
        self.embed = nn.Parameter(torch.randn(positions, dim, WIDTH) * (0.5 / dim**0.5))
        self.place = nn.Parameter(torch.randn(positions, WIDTH) * 0.1)
        self.question = nn.Parameter(torch.randn(groups, positions, WIDTH) * 0.1)
        self.blocks = nn.ModuleList(_Block() for _ in range(BLOCKS))
        self.answer = nn.Parameter(torch.zeros(positions, WIDTH, 2 * dim))
        self.bias = nn.Parameter(torch.zeros(groups, positions, 2 * dim))
        content, asked = layer[:below], layer
        free = torch.cat([content[:, None] >= content, asked[:, None] > content])
        self_only = torch.cat([torch.zeros(below, positions, dtype=torch.bool), torch.eye(positions, dtype=torch.bool)])
        self.register_buffer("blocked", ~torch.cat([free, self_only], 1), persistent=False)

    def forward(self, faces: Tokens) -> Tensor:
        content = torch.einsum("ntd,tdw->ntw", self.unit(faces)[:, : self.below], self.embed[: self.below])
        x = torch.cat([content + self.place[: self.below], self.question[faces.group]], 1)
        for block in self.blocks:
            x = block(x, self.blocked)
        tilt = torch.einsum("ntw,twd->ntd", x[:, self.below :], self.answer) + self.bias[faces.group]
        return self.bits(tilt, faces)


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mix, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor, blocked: Tensor) -> Tensor:
        count, length, _ = x.shape
        parts = self.mix(self.before(x)).view(count, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        asked, keys, values = parts.unbind(0)
        seen = functional.scaled_dot_product_attention(asked, keys, values, attn_mask=~blocked)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        result: Tensor = x + self.down(functional.relu(self.up(self.between(x))))
        return result


def in_int8(network: TokenTransformer) -> TokenTransformer:
    """The network with weights of 8 bits a channel, and inputs of its linear maps of 8 bits a tensor."""
    rounded = copy.deepcopy(network)
    with torch.no_grad():
        for name in ("embed", "place", "question", "answer", "bias"):
            parameter = getattr(rounded, name)
            parameter.copy_(_round8(parameter, parameter.abs().amax(-1, keepdim=True)))
        for module in rounded.modules():
            if isinstance(module, nn.Linear):
                module.weight.copy_(_round8(module.weight, module.weight.abs().amax(1, keepdim=True)))
                module.register_forward_pre_hook(lambda _, inputs: (_round8(inputs[0], inputs[0].abs().max()),))
    return rounded


def _round8(values: Tensor, largest: Tensor) -> Tensor:
    step = (largest / 127).clamp_min(BOTTOM)
    return (values / step).round().clamp(-127, 127) * step


class Gaussian(_OfCodewords):
    """Bits of codewords at equal distortion, up to a constant: diagonal normal densities of mean and scale.

    They depend on the group, and if `conditional` linearly on the codewords of the lower layers.
    """

    def __init__(self, own: Tensor, books: Tensor, ends: Sequence[int], conditional: bool) -> None:
        super().__init__(own, books)
        self.linear, self.conditional = LinearSoftmax(own, books, ends), conditional

    def forward(self, faces: Tokens) -> Tensor:
        x, bias = self.unit(faces), self.linear.bias[faces.group]
        forms = bias
        if self.conditional:
            weight = self.linear.weight * self.linear.allowed
            forms = bias + functional.linear(x.flatten(1), weight).view(bias.shape)
        mean, log_scale = forms.chunk(2, -1)
        nats = 0.5 * ((x - mean) * (-log_scale).exp()).square() + log_scale
        return (nats * (self.scale > VARIES)).sum(-1) / math.log(2)  # a density of what never varies has no bound
