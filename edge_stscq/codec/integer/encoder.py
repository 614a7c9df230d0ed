"""Encoder made for integers: its int8 graph gives the same tokens on every processor, by construction.

An identity network (plain convolutions on the grids of `grid.py`) reads the identity token vectors straight
from the middle 112 px; spatial token vectors are a linear transform of a 32-px thumbnail. Both leave as int8. Codebook
entries lie on the same grids, so every squared distance is a whole number of one unit, and a bound on it
(`largest_distance`) stays below 2**24: float32 holds it exactly, whatever the order of the sum. The lowest index wins a
tie. The group is that whose codebooks fit the identity tokens of the first layer best (exhaustive search, the paper's
"NN" rule), so there is no router to disagree about.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from edge_stscq.codec.codebooks import SwitchedCodebooks
from edge_stscq.codec.encoder import Analysis, normalize_image
from edge_stscq.codec.identity import IdentityHead
from edge_stscq.codec.integer.grid import INPUT_STEP, SIGNED, GridConv
from edge_stscq.codec.trunk import INPUT, IdentityTrunk
from edge_stscq.config.codec import CROP, EMBEDDING, CodecConfig

THUMBNAIL = 32
"""Side in pixels of the picture that spatial tokens see."""
TOKEN_STEP = 2.0**-5
"""Step of token vectors and codebook entries."""
_MARGIN = (CROP - INPUT) // 2


class IdentityNet(nn.Module):
    """Picture [N, 3, 112, 112] in steps of 1/128 -> identity components [N, 128] on the grid of token vectors."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        layers, width, side = [], 3, INPUT
        for layer in config.student_layers:
            groups = width if layer.depthwise else 1
            layers.append(GridConv(width, layer.outputs, layer.kernel, layer.stride, groups))
            width, side = layer.outputs, (side + layer.stride - 1) // layer.stride
        self.layers = nn.ModuleList(layers)
        self.project = GridConv(width, EMBEDDING, side, padding=0, signed=True)
        nn.init.normal_(self.project.weight, std=(width * side * side) ** -0.5)
        self.project.fit_weight_steps()
        self.project.output_exponent.requires_grad_(False).fill_(torch.tensor(TOKEN_STEP).log2())

    def forward(self, picture: Tensor) -> Tensor:
        return self.maps(picture)[-1].flatten(1)

    def maps(self, picture: Tensor) -> list[Tensor]:
        """Outputs of all layers, the last of them [N, 128, 1, 1]."""
        x, exponent = picture, picture.new_tensor(INPUT_STEP).log2()
        maps = []
        for layer in (*self.layers, self.project):
            x, exponent = layer(x, exponent)
            maps.append(x)
        return maps


class SpatialTransform(nn.Module):
    """Picture [N, 3, 128, 128] -> spatial components [N, C] on the grid of token vectors, linear in a thumbnail."""

    def __init__(self, components: int) -> None:
        super().__init__()
        factor = CROP // THUMBNAIL
        self.shrink = GridConv(3, 3, factor, factor, groups=3, padding=0, signed=True)
        self.transform = GridConv(3, components, THUMBNAIL, padding=0, signed=True)
        with torch.no_grad():
            self.shrink.weight.fill_(factor**-2)
            self.shrink.weight_exponent.fill_(torch.tensor(float(factor**-2)).log2())
            self.shrink.output_exponent.fill_(torch.tensor(INPUT_STEP).log2())
            self.transform.output_exponent.fill_(torch.tensor(TOKEN_STEP).log2())
        self.requires_grad_(False)

    def thumbnail(self, picture: Tensor) -> Tensor:
        """Means over the cells of a grid [N, 3, 32, 32], rounded to the picture's own steps."""
        small: Tensor = self.shrink(picture, picture.new_tensor(INPUT_STEP).log2())[0]
        return small

    def forward(self, picture: Tensor) -> Tensor:
        components: Tensor = self.transform(self.thumbnail(picture), self.shrink.output_exponent)[0]
        return components.flatten(1)


class TokenLayout(nn.Module):
    """Deals components out to the slots of token vectors: identity [N, 128] and spatial [N, C] -> z [N, T, D].

    `slots` holds for each slot of each token the index of its component, identity first, or of a constant zero.
    """

    slots: Tensor
    is_identity: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.zero = EMBEDDING + config.spatial_components
        self.register_buffer("slots", torch.full((config.tokens * config.dim,), self.zero))
        self.register_buffer("is_identity", torch.tensor(config.is_identity), persistent=False)

    def deal(self, held: Tensor) -> None:
        """Deal all components out in order, in place.

        Args:
            held: bool [T_id * D], slots of identity tokens that hold a component of the embedding.
        """
        slots = torch.full((self.config.tokens, self.config.dim), self.zero)
        identity = torch.full_like(slots[self.is_identity], self.zero)
        identity.view(-1)[held] = torch.arange(int(held.sum()))
        spatial, position, component = torch.full_like(slots[~self.is_identity], self.zero), 0, EMBEDDING
        for layer in self.config.layers:
            numbers = torch.arange(component, component + layer.spatial_dims)
            for part in numbers.tensor_split(layer.spatial) if layer.spatial else ():
                spatial[position, : len(part)] = part
                position += 1
            component += layer.spatial_dims
        slots[self.is_identity], slots[~self.is_identity] = identity, spatial
        self.slots.copy_(slots.flatten())

    def forward(self, identity: Tensor, spatial: Tensor) -> Tensor:
        components = torch.cat([identity, spatial, torch.zeros_like(identity[:, :1])], dim=1)
        return components.index_select(1, self.slots).view(-1, self.config.tokens, self.config.dim)

    def components(self, z: Tensor) -> Tensor:
        """Components [N, 128 + C] of token vectors [N, t, D] of a prefix; those that no token holds are zero."""
        flat = z.flatten(1)
        found = torch.zeros(len(z), self.zero + 1, device=z.device).index_copy(1, self.slots[: flat.shape[1]], flat)
        return found[:, : self.zero]

    def identity_components(self, z: Tensor) -> Tensor:
        """Identity components [N, 128] of all identity token vectors [N, T_id, D]."""
        slots = self.slots.view(self.config.tokens, -1)[self.is_identity].flatten()
        found = torch.zeros(len(z), self.zero + 1, device=z.device).index_copy(1, slots, z.flatten(1))
        return found[:, :EMBEDDING]


class TokenEncoder(nn.Module):
    """Picture uint8 [N, 128, 128, 3] (RGB) -> (group int32 [N], tokens int32 [N, T]).

    What student and teacher share: the spatial transform, the layout of tokens, the codebook search, and `head`, which
    says what the identity components mean. They differ in where these come from, `identity_components`.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.head = IdentityHead(config)
        self.spatial = SpatialTransform(config.spatial_components)
        self.layout = TokenLayout(config)
        self.codebooks = SwitchedCodebooks(
            config.groups, config.tokens, config.entries, config.dim, config.token_specific
        )

    def identity_components(self, center: Tensor) -> Tensor:
        """Identity components [N, 128] of pictures [N, 3, 112, 112] in -1..1."""
        raise NotImplementedError

    def vectors(self, image: Tensor) -> Tensor:
        """Token vectors [N, T, D] of pictures uint8 [N, 128, 128, 3]."""
        picture = normalize_image(image)
        center = picture[:, :, _MARGIN : CROP - _MARGIN, _MARGIN : CROP - _MARGIN]
        z: Tensor = self.layout(self.identity_components(center), self.spatial(picture))
        return z

    def group_errors(self, z: Tensor) -> Tensor:
        """Squared error [N, M] of the first layer's identity tokens in each group, less what is common to all."""
        count = self.config.layers[0].identity
        books = self.codebooks.books[:, :count]
        product = torch.einsum("ntd,mtkd->nmtk", z[:, :count], books)
        return (books.square().sum(-1) - 2 * product).amin(-1).sum(-1)

    @torch.no_grad()
    def share_tables(self, other: "TokenEncoder") -> None:
        """Take over all but the network from another encoder: its components, their layout and the codebooks."""
        for name in ("head", "spatial", "layout", "codebooks"):
            getattr(self, name).load_state_dict(getattr(other, name).state_dict())

    def choose(self, z: Tensor) -> Tensor:
        """Group int64 [N] of token vectors [N, T, D]."""
        if self.config.groups == 1:
            return torch.zeros(len(z), dtype=torch.long, device=z.device)
        return self.group_errors(z).argmin(-1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        z = self.vectors(image)
        group = self.choose(z)
        return group.int(), self.codebooks.nearness(z, group).argmin(-1).int()

    @torch.no_grad()
    def analyse(self, image: Tensor) -> Analysis:
        """As `forward`, with what led to the result."""
        z = self.vectors(image)
        group = self.choose(z)
        distances = self.codebooks.distances(z, group)
        nearest = distances.topk(2, dim=-1, largest=False).values
        return Analysis(
            z, -self.group_errors(z), group.int(), distances.argmin(-1).int(), nearest[..., 1] - nearest[..., 0],
            self.head.embedding(z[:, self.layout.is_identity]),
        )  # fmt: skip


class IntegerEncoder(TokenEncoder):
    """The device's encoder: identity components by `IdentityNet`, in whole numbers."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__(config)
        self.identity = IdentityNet(config)

    def identity_components(self, center: Tensor) -> Tensor:
        components: Tensor = self.identity(center)
        return components

    def quantize(self, on: bool) -> "IntegerEncoder":
        """Switch rounding of the identity network on, or off: then it is the float twin. Returns itself."""
        for layer in self.identity.modules():
            if isinstance(layer, GridConv):
                layer.quantized = on
        return self

    def float_twin(self) -> "IntegerEncoder":
        """A copy whose identity network computes in float32."""
        return deepcopy(self).quantize(False)

    @property
    def largest_distance(self) -> int:
        """Bound on any partial sum of the codebook search, in units of `TOKEN_STEP` squared."""
        largest = max(-SIGNED[0], int((self.codebooks.books.abs() / TOKEN_STEP).max()))
        tokens = self.config.layers[0].identity if self.config.groups > 1 else 1
        return tokens * self.config.dim * 3 * largest**2


class ReferenceEncoder(TokenEncoder):
    """The teacher: identity components of the whole recognizer's embedding, in float32."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__(config)
        self.trunk = IdentityTrunk()

    def identity_components(self, center: Tensor) -> Tensor:
        return self.components_of(self.trunk(center))

    def components_of(self, embedding: Tensor) -> Tensor:
        """Identity components [N, 128] of raw embeddings [N, 128]."""
        z = self.head(embedding)
        return self.layout.identity_components(z)


def on_token_grid(books: Tensor) -> Tensor:
    """The nearest codebook entries whose values a token vector can take."""
    return (books / TOKEN_STEP).round().clamp(*SIGNED) * TOKEN_STEP
