"""The integer student in whole numbers, and as the graph that targets lower.

One grid, written twice: activations unsigned with zero point 0, as ONNX Runtime's kernels like them, or signed with
zero point -128, as XNNPACK takes them. The real values are the same, the integer sums are the same, so the tokens are.
Every multiplier is a power of two, so no runtime has a choice of how to round.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.ao.quantization.fx import _decomposed  # registers the operators  # noqa: F401
from torch.nn import functional

from edge_stscq.codec.integer.encoder import TOKEN_STEP, IntegerEncoder
from edge_stscq.codec.integer.grid import EXACT, INPUT_STEP, SIGNED, GridConv, IntegerLayer
from edge_stscq.codec.trunk import INPUT
from edge_stscq.config.codec import CROP
from edge_stscq.errors import EdgeError

_MARGIN = (CROP - INPUT) // 2
_Q = torch.ops.quantized_decomposed


@dataclass(frozen=True, eq=False)
class IntegerProgram:
    """Everything that the device's encoder computes with, in whole numbers.

    Attributes:
        identity: the identity network, layer by layer, the projection last.
        shrink, transform: the spatial transform.
        slots: int64 [T * D], which component each slot of a token vector holds (`TokenLayout`).
        books: int32 [M, T, K, D], codebook entries in steps of `TOKEN_STEP`.
        first: identity tokens of the first layer, which the group is chosen by.
    """

    identity: tuple[IntegerLayer, ...]
    shrink: IntegerLayer
    transform: IntegerLayer
    slots: Tensor
    books: Tensor
    first: int


def integer_program(encoder: IntegerEncoder) -> IntegerProgram:
    """The encoder in whole numbers.

    Raises:
        EdgeError: a weight, bias, sum or codebook entry is not on its grid or leaves its type; the layer is named.
    """
    exponent, largest = int(np.log2(INPUT_STEP)), -SIGNED[0]
    shrink = _checked("spatial.shrink", encoder.spatial.shrink, exponent, largest)
    transform = _checked("spatial.transform", encoder.spatial.transform, shrink.output_exponent, largest)
    layers = []
    for name, layer in _named(encoder):
        layers.append(_checked(name, layer, exponent, largest))
        exponent, largest = layers[-1].output_exponent, layers[-1].high
    books = encoder.codebooks.books / TOKEN_STEP
    if bool((books != books.round()).any()) or float(books.abs().max()) > 128:
        raise EdgeError("a codebook entry is not on the grid of token vectors; fit the codebooks again")
    if encoder.largest_distance >= EXACT:
        raise EdgeError(f"a sum of the codebook search may reach {encoder.largest_distance}, beyond exact float32")
    expanded = books.expand(-1, encoder.config.tokens, -1, -1)
    return IntegerProgram(
        tuple(layers), shrink, transform, encoder.layout.slots, expanded.to(torch.int32),
        encoder.config.layers[0].identity,
    )  # fmt: skip


def _named(encoder: IntegerEncoder) -> list[tuple[str, GridConv]]:
    layers = [(f"identity.layers.{i}", layer) for i, layer in enumerate(encoder.identity.layers)]
    return [*layers, ("identity.project", encoder.identity.project)]  # type: ignore[list-item]


def _checked(name: str, layer: GridConv, exponent: int, largest: int) -> IntegerLayer:
    try:
        return layer.to_integers(exponent, largest)
    except ValueError as error:
        raise EdgeError(f"layer {name}: {error}") from None


def _on_one_pixel(layer: IntegerLayer) -> IntegerLayer:
    """A layer that sees its whole input at once, as one of a single pixel: XNNPACK pads the channels of every tap."""
    return layer._replace(weight=layer.weight.flatten(1)[:, :, None, None])


class _Layer(nn.Module):
    """One convolution between quantize and dequantize operators."""

    weight: Tensor
    weight_scale: Tensor
    weight_zero: Tensor
    bias: Tensor
    bias_scale: Tensor

    def __init__(self, layer: IntegerLayer, signed: bool) -> None:
        super().__init__()
        self.signed = signed
        self.stride, self.padding, self.groups = layer.stride, layer.padding, layer.groups
        self.rectified = layer.low == 0
        self.scale = 2.0**layer.output_exponent
        self.zero, self.low, self.high = (
            (0, -128, 127) if not self.rectified else (-128, -128, 127) if signed else (0, 0, 255)
        )
        self.dtype = torch.uint8 if self.rectified and not signed else torch.int8
        scale = torch.exp2(layer.weight_exponent.float())
        self.register_buffer("weight", layer.weight)
        self.register_buffer("weight_scale", scale)
        self.register_buffer("weight_zero", torch.zeros(len(scale), dtype=torch.int64))
        unit = scale * 2.0**layer.input_exponent
        self.register_buffer("bias", layer.bias.float() * unit if signed else layer.bias)
        self.register_buffer("bias_scale", unit)

    def forward(self, x: Tensor) -> Tensor:
        weight = _Q.dequantize_per_channel(self.weight, self.weight_scale, self.weight_zero, 0, -127, 127, torch.int8)
        bias = self.bias
        if not self.signed:
            limit = torch.iinfo(torch.int32)
            bias = _Q.dequantize_per_channel(
                bias, self.bias_scale, self.weight_zero, 0, limit.min, limit.max, torch.int32
            )
        y = functional.conv2d(x, weight, bias, self.stride, self.padding, groups=self.groups)
        if self.rectified:
            y = functional.relu(y)
        y = _Q.quantize_per_tensor(y, self.scale, self.zero, self.low, self.high, self.dtype)
        result: Tensor = _Q.dequantize_per_tensor(y, self.scale, self.zero, self.low, self.high, self.dtype)
        return result


class IntegerGraph(nn.Module):
    """Picture uint8 [1, 128, 128, 3] -> (group int32 [1], tokens int32 [1, T]), with int8 written out.

    Args:
        signed: activations signed with zero point -128 (XNNPACK) instead of unsigned with zero point 0.
    """

    slots: Tensor
    books: Tensor
    norms: Tensor
    first_books: Tensor
    first_norms: Tensor

    def __init__(self, program: IntegerProgram, signed: bool) -> None:
        super().__init__()
        self.signed, self.first = signed, program.first
        self.identity = nn.Sequential(*[_Layer(layer, signed) for layer in program.identity])
        self.shrink, self.transform = _Layer(program.shrink, signed), _Layer(_on_one_pixel(program.transform), signed)
        self.register_buffer("slots", program.slots)
        self.register_buffer("books", program.books.to(torch.int8))
        self.register_buffer("norms", program.books.square().sum(-1).float())
        by_token = (held[:, : self.first].transpose(0, 1).flatten(1, 2) for held in (self.books, self.norms))
        for name, held in zip(("first_books", "first_norms"), by_token, strict=True):
            self.register_buffer(name, held.contiguous())

    def _picture(self, image: Tensor) -> Tensor:
        planes = image.permute(0, 3, 1, 2)
        if not self.signed:
            result: Tensor = _Q.dequantize_per_tensor(planes, INPUT_STEP, 128, 0, 255, torch.uint8)
            return result
        return (planes.float() - 128) * INPUT_STEP

    def _again(self, x: Tensor) -> Tensor:
        """The same values, written as int8: XNNPACK takes a convolution whose input is written so, for it alone."""
        if not self.signed:
            return x
        q = _Q.quantize_per_tensor(x, INPUT_STEP, 0, -128, 127, torch.int8)
        result: Tensor = _Q.dequantize_per_tensor(q, INPUT_STEP, 0, -128, 127, torch.int8)
        return result

    def _entries(self, books: Tensor) -> Tensor:
        """Whole numbers in float32 of int8 entries."""
        result: Tensor = _Q.dequantize_per_tensor(books, 1.0, 0, -128, 127, torch.int8)
        return result

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        picture = self._picture(image)
        center = self._again(picture[:, :, _MARGIN : CROP - _MARGIN, _MARGIN : CROP - _MARGIN])
        identity = self.identity(center).flatten(1)
        thumbnail = self.shrink(self._again(picture)).reshape(1, -1, 1, 1)
        spatial = self.transform(self._again(thumbnail)).flatten(1)
        # twice the components, in whole numbers: |z - b|^2 is |b|^2 - 2 z b and what is common to all entries b
        doubled = torch.cat([identity, spatial, torch.zeros(1, 1)], dim=1) * (2 / TOKEN_STEP)
        tokens, dim = self.books.shape[1], self.books.shape[3]
        z = doubled.index_select(1, self.slots).reshape(tokens, dim, 1)
        # whole numbers below 2**24 in float32: exact in any order
        if len(self.books) == 1:
            group = torch.zeros(1, dtype=torch.int64)
            book, norms = self.books[0], self.norms[0]
        else:
            near = self.first_norms - torch.bmm(self._entries(self.first_books), z[: self.first]).squeeze(-1)
            group = near.reshape(self.first, len(self.books), -1).amin(-1).sum(0).argmin(-1, keepdim=True)
            book, norms = self.books.index_select(0, group)[0], self.norms.index_select(0, group)[0]
        distance = norms - torch.bmm(self._entries(book), z).squeeze(-1)
        return group.int(), distance.argmin(-1).int().reshape(1, tokens)
