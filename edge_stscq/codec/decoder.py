"""The decoder: a style-modulated generator that decodes a face from any prefix of layers.

A *sketch*, linear in the codewords received, is the best straight line from tokens to a 32-px picture; it seeds the
network and the network's pictures are corrections of it. After the hierarchy of StyleGAN (arXiv 2312.15622 for its use
in scalable face coding), a style vector computed from the tokens of the layers that say who it is, up to the last with
identity tokens, modulates every block, together with a flag for each further layer that was received.
Tokens that were not received are replaced by learned vectors. Modulation and demodulation scale the inputs and outputs
of ordinary convolutions, which equals StyleGAN2's per-sample weights without grouped convolutions.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq.codec.codebooks import SwitchedCodebooks
from edge_stscq.config.codec import CodecConfig

SKETCH = 32
"""Side of the sketch in pixels."""
_SEED = 16
_GAIN = 1.4
"""Keeps the variance through a leaky ReLU; applied before it, where a multiplication is made anyway."""


class ModulatedConv(nn.Module):
    """3 x 3 convolution of x [N, Cin, S, S] whose weights are scaled by a style [N, style] and renormalised."""

    def __init__(self, inputs: int, outputs: int, style: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3) * (inputs * 9) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = nn.Linear(style, inputs)
        nn.init.normal_(self.scale.weight, std=0.5 * style**-0.5)
        nn.init.ones_(self.scale.bias)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale = self.scale(style)
        energy = self.weight.square().sum((2, 3))  # [Cout, Cin]
        demodulate = _GAIN * torch.rsqrt(scale.square() @ energy.t() + 1e-6)
        x = functional.conv2d(x * scale[:, :, None, None], self.weight, padding=1)
        x = torch.addcmul((_GAIN * self.bias)[:, None, None], x, demodulate[:, :, None, None])
        return functional.leaky_relu(x, 0.2, inplace=True)


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _soften_color(picture: Tensor) -> Tensor:
    """Colour at the sketch's resolution, brightness at full: eyes ask for no more, and noise would hide in it."""
    factor = picture.shape[-1] // SKETCH
    if factor == 1:
        return picture
    brightness = picture.mean(1, keepdim=True)
    color = functional.avg_pool2d(picture - brightness, factor)
    return brightness + functional.interpolate(color, scale_factor=factor, mode="bilinear", align_corners=False)


class _Block(nn.Module):
    """Two modulated convolutions with a bilinear doubling between them, and a picture at the new size."""

    def __init__(self, inputs: int, outputs: int, style: int) -> None:
        super().__init__()
        self.first = ModulatedConv(inputs, outputs, style)
        self.second = ModulatedConv(outputs, outputs, style)
        self.picture = nn.Conv2d(outputs, 3, 1)
        for parameter in self.picture.parameters():
            nn.init.zeros_(parameter)  # training starts from the sketch as it is

    def forward(self, x: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        x = self.second(_double(self.first(x, style)), style)
        return x, self.picture(x)


class Decoder(nn.Module):
    """Codewords of a prefix of layers -> picture."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.decoder_channels
        self.codebooks = SwitchedCodebooks(
            config.groups, config.tokens, config.entries, config.dim, config.token_specific
        )
        self.absent = nn.Parameter(torch.zeros(config.tokens, config.dim))
        self.style_tokens = config.style_tokens
        self.style = nn.Sequential(
            nn.Linear(self.style_tokens * config.dim + len(config.layers) - 1, config.style_dim), nn.LeakyReLU(0.2),
            nn.Linear(config.style_dim, config.style_dim), nn.LeakyReLU(0.2),
            nn.Linear(config.style_dim, config.style_dim), nn.LeakyReLU(0.2),
        )  # fmt: skip
        sketches = [nn.Linear(end * config.dim, 3 * SKETCH**2) for end in config.layer_ends]
        self.sketches = nn.ModuleList(sketches)
        self.seed = nn.Parameter(torch.randn(1, channels[0], _SEED, _SEED) * 0.5)
        self.enter = nn.Conv2d(3 * (SKETCH // _SEED) ** 2, channels[0], 1)
        self.first = ModulatedConv(channels[0], channels[0], config.style_dim)
        self.blocks = nn.ModuleList(_Block(inputs, outputs, config.style_dim) for inputs, outputs in pairwise(channels))

    def sketch(self, codewords: Tensor, received: Tensor) -> Tensor:
        """Linear pictures [N, 3, 32, 32], about -1..1, from codewords [N, T, D] of `received` [N] layers."""
        ends = self.config.layer_ends
        drawn = [line(codewords[:, :end].flatten(1)) for line, end in zip(self.sketches, ends, strict=True)]
        pick = received.long() - 1
        chosen = torch.stack(drawn, dim=1)[torch.arange(len(pick), device=pick.device), pick]
        return chosen.view(-1, 3, SKETCH, SKETCH)

    def forward(self, codewords: Tensor, received: Tensor, size: int = 128) -> Tensor:
        """Decode pictures.

        Args:
            codewords: [N, T, D]; what stands at positions that were not received is ignored.
            received: number of layers of each sample, int [N] in 1..L, of L layers.
            size: 32, 64 or 128; smaller pictures come from the earlier blocks.

        Returns:
            Pictures [N, 3, size, size], about -1..1, not clipped.
        """
        ends = torch.tensor(self.config.layer_ends, device=codewords.device)[received.long() - 1]
        positions = torch.arange(self.config.tokens, device=codewords.device)
        present = (positions[None, :] < ends[:, None]).unsqueeze(-1)
        words = torch.where(present, codewords, self.absent)
        further = torch.arange(1, len(self.config.layers), device=received.device)
        flags = (received[:, None] > further).to(words.dtype)
        style = self.style(torch.cat([words[:, : self.style_tokens].flatten(1), flags], dim=1))
        picture = self.sketch(codewords, received)
        x = self.first(self.seed + self.enter(functional.pixel_unshuffle(picture, SKETCH // _SEED)), style)
        for block in self.blocks:
            x, correction = block(x, style)
            picture = correction + (picture if picture.shape[-1] == x.shape[-1] else _double(picture))
            if x.shape[-1] == size:
                break
        return _soften_color(picture)

    @torch.no_grad()
    def decode(self, group: Tensor, tokens: Tensor, layers: int | None = None) -> Tensor:
        """Faces uint8 [N, 128, 128, 3] (RGB) from groups [N] and tokens [N, T or the prefix of `layers`].

        Args:
            layers: how many to decode from; None is all.

        Raises:
            ValueError: the model has fewer layers, or there are too few tokens for so many.
        """
        ends = self.config.layer_ends
        layers = len(ends) if layers is None else layers
        if not 1 <= layers <= len(ends):
            raise ValueError(f"{layers} is not 1 to {len(ends)}, the layers of this model")
        if tokens.shape[1] < ends[layers - 1]:
            raise ValueError(f"{tokens.shape[1]} tokens do not make {layers} layers of {ends}")
        tokens = functional.pad(tokens, (0, self.config.tokens - tokens.shape[1]))
        return self.decode_batch(group, tokens, torch.full((len(tokens),), layers, device=tokens.device))

    def decode_batch(self, group: Tensor, tokens: Tensor, received: Tensor) -> Tensor:
        """Faces uint8 [N, 128, 128, 3] (RGB) of different layer counts: groups [N], tokens [N, T], layers [N] in 1..L.

        Tokens at positions that were not received are ignored.
        """
        picture: Tensor = self(self.codebooks.lookup(group, tokens), received)
        return (picture.float() * 128 + 128).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
