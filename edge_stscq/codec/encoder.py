"""From a crop to tokens: the part that teacher and student share, and the teacher's networks.

An encoder is a `backbone` (convolutions only: the part that becomes int8) and a `TokenHead` in float32: regional
pooling, the transform into token vectors, the router and the codebook search. The picture enters as uint8 and integers
leave.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from edge_stscq.codec.codebooks import SwitchedCodebooks
from edge_stscq.codec.identity import IdentityHead
from edge_stscq.codec.pooling import RegionalPooling
from edge_stscq.codec.trunk import INPUT, IdentityTrunk
from edge_stscq.config.codec import CROP, CodecConfig

_MARGIN = (CROP - INPUT) // 2


class Analysis(NamedTuple):
    """Everything an encoder knows of a batch of N pictures."""

    z: Tensor
    """Token vectors [N, T, D]."""
    group_logits: Tensor
    """[N, M]"""
    group: Tensor
    """int32 [N]"""
    tokens: Tensor
    """int32 [N, T]"""
    margin: Tensor
    """Squared distance of the second-nearest entry minus that of the nearest [N, T]."""
    embedding: Tensor
    """Raw identity embedding [N, 128]."""


def normalize_image(image: Tensor) -> Tensor:
    """uint8 [N, S, S, 3] -> float [N, 3, S, S] in -1..1, in steps that an int8 input holds exactly."""
    return (image.permute(0, 3, 1, 2).float() - 128) * (1 / 128)


class Router(nn.Module):
    """Group logits from all token vectors of an image: z [N, T, D] -> [N, M].

    It chooses the codebook group without labels (STSCQ, section on switchable codebooks).
    """

    def __init__(self, tokens: int, dim: int, groups: int, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(tokens * dim, hidden), nn.ReLU(), nn.Linear(hidden, groups))

    def forward(self, z: Tensor) -> Tensor:
        logits: Tensor = self.layers(z.flatten(1))
        return logits


class Backbone(nn.Module):
    """Identity trunk on the centre 112 px beside a spatial network on the whole crop.

    Forward: normalised [N, 3, 128, 128] -> (embedding [N, 128], features [N, C, 16, 16]).
    """

    def __init__(self, identity: IdentityTrunk, spatial: nn.Module) -> None:
        super().__init__()
        self.identity = identity
        self.spatial = spatial

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        center = image[:, :, _MARGIN : CROP - _MARGIN, _MARGIN : CROP - _MARGIN]
        return self.identity(center), self.spatial(image)


class TokenHead(nn.Module):
    """Backbone outputs -> token vectors z [N, T, D], layer by layer, identity before spatial.

    Spatial vectors are a linear transform of all pooled regions and of a thumbnail of the picture together:
    neighbouring regions of a face are alike, and a transform that decorrelates them before the codebooks spends no
    token on saying the same thing twice. What is linear in the picture comes from the thumbnail, in float32, exactly
    alike on every device; the regions add what the network sees beyond it.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.identity = IdentityHead(config)
        self.pooling = RegionalPooling(config.regions, config.regional_pooling)
        inputs, outputs = config.regions * config.features, config.spatial_tokens * config.dim
        self.transform = nn.Parameter(torch.randn(inputs, outputs) * inputs**-0.5)
        cells = 3 * config.thumbnail**2
        self.pixels = nn.Parameter(torch.randn(cells, outputs) * cells**-0.5) if cells else None
        self.offset = nn.Parameter(torch.zeros(outputs))

    def pooled(self, features: Tensor) -> Tensor:
        """All regions' vectors side by side, [N, R * C], of a feature map [N, C, 16, 16]."""
        return self.pooling.pool(features).flatten(1)

    def thumbnail(self, image: Tensor) -> Tensor:
        """Means over the cells of a grid, [N, 3 * S * S], of normalised pictures [N, 3, 128, 128]."""
        side = self.config.thumbnail
        rows = image.reshape(len(image), 3, side, CROP // side, CROP).mean(3)
        return rows.reshape(len(image), 3, side, side, CROP // side).mean(4).flatten(1)

    def spatial(self, features: Tensor, image: Tensor) -> Tensor:
        """Spatial token vectors [N, T_sp, D] of feature maps [N, C, 16, 16] and their normalised pictures."""
        z = torch.matmul(self.pooled(features), self.transform) + self.offset
        if self.pixels is not None:
            z = z + torch.matmul(self.thumbnail(image), self.pixels)
        return z.view(len(z), self.config.spatial_tokens, self.config.dim)

    def spatial_positions(self) -> Tensor:
        """Positions int64 [T_sp] of the spatial tokens among all."""
        return torch.tensor(self.config.is_identity).logical_not().nonzero().flatten()

    def identity_positions(self) -> Tensor:
        """Positions int64 [T_id] of the identity tokens among all."""
        return torch.tensor(self.config.is_identity).nonzero().flatten()

    def order(self, identity: Tensor, spatial: Tensor) -> Tensor:
        """Interleave identity and spatial vectors into the order of the layers."""
        parts, i, s = [], 0, 0
        for layer in self.config.layers:
            parts += [identity[:, i : i + layer.identity], spatial[:, s : s + layer.spatial]]
            i, s = i + layer.identity, s + layer.spatial
        return torch.cat(parts, dim=1)

    def forward(self, embedding: Tensor, features: Tensor, image: Tensor) -> Tensor:
        return self.order(self.identity(embedding), self.spatial(features.float(), image))


class EdgeEncoder(nn.Module):
    """Picture uint8 [N, 128, 128, 3] (RGB) -> (group int32 [N], tokens int32 [N, T])."""

    def __init__(self, config: CodecConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.head = TokenHead(config)
        self.router = Router(config.tokens, config.dim, config.groups)
        self.codebooks = SwitchedCodebooks(
            config.groups, config.tokens, config.entries, config.dim, config.token_specific
        )

    def choose(self, z: Tensor, logits: Tensor) -> Tensor:
        """Group of each image by the configured rule: the router's arg-max, or the nearest of all groups."""
        scores = logits if self.config.group_rule == "router" else -self.codebooks.group_errors(z)
        return scores.argmax(-1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        picture = normalize_image(image)
        z = self.head(*self.backbone(picture), picture)
        group = self.choose(z, self.router(z))
        return group.int(), self.codebooks.nearness(z, group).argmin(-1).int()

    def float_twin(self) -> "EdgeEncoder":
        """Itself: nothing in it is rounded. A student made for integers has another."""
        return self

    @torch.no_grad()
    def analyse(self, image: Tensor) -> Analysis:
        """As `forward`, with what led to the result."""
        picture = normalize_image(image)
        embedding, features = self.backbone(picture)
        z = self.head(embedding, features, picture)
        logits = self.router(z)
        group = self.choose(z, logits)
        distances, tokens = self.codebooks.distances(z, group).topk(2, dim=-1, largest=False)
        return Analysis(z, logits, group.int(), tokens[..., 0].int(), distances[..., 1] - distances[..., 0], embedding)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(x + self.body(x))


def _down(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def teacher(config: CodecConfig) -> EdgeEncoder:
    """The full-precision reference encoder: the whole identity trunk and a residual spatial network."""
    w = config.teacher_width
    spatial = nn.Sequential(
        *_down(3, w // 4), *_down(w // 4, w // 2), _Residual(w // 2), *_down(w // 2, w), _Residual(w), _Residual(w),
        nn.Conv2d(w, config.features, 1),
    )  # fmt: skip
    return EdgeEncoder(config, Backbone(IdentityTrunk(), spatial))


def student(config: CodecConfig) -> EdgeEncoder:
    """The device's encoder: a pruned ReLU trunk and a plain convolutional spatial network, at most 300 MMAC."""
    w = config.student_width
    narrow, medium = max(8, w // 48 * 8), max(8, w // 24 * 8)
    spatial = nn.Sequential(
        *_plain(3, narrow, 2), *_plain(narrow, medium, 2), *_plain(medium, w, 2), *_plain(w, w, 1), *_plain(w, w, 1),
        nn.Conv2d(w, config.features, 1),
    )  # fmt: skip
    return EdgeEncoder(config, Backbone(IdentityTrunk(config.student_trunk, plain=True), spatial))


def _plain(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return [convolution, nn.ReLU()]
