"""Layers on an integer grid: what they compute in float is what int8 kernels compute, to the last bit.

Every tensor lies on a grid whose step is a power of two: activations behind a clipped ReLU on `0..255`, signed outputs
on `-128..127`, weights of each output channel within 7 bits (`-63..63`, so that pairwise 16-bit sums of int8 kernels
cannot saturate), biases on input step times weight step in int32. A sum is then a whole number of one unit, its
requantization a multiplication by a power of two and one rounding half to even, which MLAS, XNNPACK and plain float32
do alike on every processor.

Steps are learned (LSQ, Esser et al. 2020, arXiv 1902.08153) as their binary logarithm, rounded to whole numbers with a
straight-through gradient. With quantization switched off a layer is its float twin: the same bounds, nothing rounded.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

WEIGHT_LIMIT = 63
"""Largest magnitude of an integer weight (7 bits)."""
UNSIGNED = (0, 255)
"""Range of an activation behind a clipped ReLU."""
SIGNED = (-128, 127)
"""Range of a signed output."""
INPUT_STEP = 2.0**-7
"""Step of a picture: the byte minus 128 in units of 1/128."""
ACCUMULATOR = 2**31 - 1
"""Largest magnitude of a sum in int32."""
EXACT = 2**24
"""Bound up to which whole numbers are exact in float32."""


def rounded_to_steps(x: Tensor, step: Tensor, low: int, high: int, rounded: bool) -> Tensor:
    """`clamp(round(x / step), low, high) * step` in the type of `x`, computed in at least float32."""
    value = (x / step).clamp(low, high)
    return ((value.round() if rounded else value) * step).to(x.dtype)


def rounding_gradients(
    gradient: Tensor, x: Tensor, step: Tensor, low: int, high: int, rounded: bool
) -> tuple[Tensor, Tensor]:
    """LSQ's gradients of `rounded_to_steps` for `x` and, not yet summed or scaled, for the logarithm of the step."""
    value = x / step
    clipped = value.clamp(low, high)
    result = clipped.round() if rounded else clipped
    inside = (value >= low) & (value <= high)
    slope = torch.where(inside, result - value, result) * gradient
    return gradient * inside, (slope * step).sum_to_size(step.shape)


class Rounding(NamedTuple):
    """Kernels that round to a grid, forwards and backwards."""

    values: Callable[[Tensor, Tensor, int, int, bool], Tensor]
    gradients: Callable[[Tensor, Tensor, Tensor, int, int, bool], tuple[Tensor, Tensor]]


PLAIN = Rounding(rounded_to_steps, rounding_gradients)
"""Rounding by one operation of torch after the other."""


class _RoundToGrid(torch.autograd.Function):
    """`rounded_to_steps` of the binary logarithm of a step, with LSQ's gradients."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, exponent: Tensor, low: int, high: int, rounded: bool, rounding: Rounding
    ) -> Tensor:  # fmt: skip
        step = torch.exp2(exponent.round())
        step = step.reshape(step.shape or (1,))  # with a dimension it widens a smaller type of `x`
        ctx.save_for_backward(x, step)
        ctx.limits, ctx.rounded, ctx.rounding, ctx.shape = (low, high), rounded, rounding, exponent.shape
        return rounding.values(x, step, low, high, rounded)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, step = ctx.saved_tensors
        low, high = ctx.limits
        passed, slope = ctx.rounding.gradients(gradient, x, step, low, high, ctx.rounded)
        scale = math.log(2) / math.sqrt(x.numel() / step.numel() * high)
        return passed, slope.reshape(ctx.shape) * scale, None, None, None, None


def round_to_grid(
    x: Tensor, exponent: Tensor, low: int, high: int, rounded: bool = True, rounding: Rounding = PLAIN
) -> Tensor:  # fmt: skip
    """The nearest point of a grid, half to even.

    Args:
        x: any shape.
        exponent: binary logarithm of the step, broadcastable to `x`; rounded to a whole number.
        low, high: range in steps.
        rounded: false clips to the grid's range and rounds nothing.
    """
    result: Tensor = _RoundToGrid.apply(x, exponent, low, high, rounded, rounding)  # type: ignore[no-untyped-call]
    return result


class IntegerLayer(NamedTuple):
    """One convolution in whole numbers: `y = clamp(round(conv(x, weight) + bias) * 2 ** shift), low, high)`."""

    weight: Tensor
    """int8 [Cout, Cin / groups, k, k], within 7 bits."""
    bias: Tensor
    """int32 [Cout], in units of input step times weight step."""
    weight_exponent: Tensor
    """int32 [Cout], binary logarithm of each channel's weight step."""
    input_exponent: int
    output_exponent: int
    low: int
    high: int
    stride: int
    padding: int
    groups: int

    @property
    def shift(self) -> Tensor:
        """int32 [Cout], binary logarithm of what a sum is multiplied by."""
        return self.weight_exponent + self.input_exponent - self.output_exponent


class GridConv(nn.Module):
    """Convolution between two grids, with a clipped ReLU or a signed output.

    Args:
        signed: the output is clipped to -128..127 steps instead of 0..255.
        quantized: attribute; false makes it the float twin.
        rounding: attribute; kernels that its output is rounded by.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, padding: int | None = None,
        signed: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stride, self.groups = stride, groups
        self.padding = kernel // 2 if padding is None else padding
        self.low, self.high = SIGNED if signed else UNSIGNED
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.weight_exponent = nn.Parameter(torch.zeros(outputs, 1, 1, 1))
        self.output_exponent = nn.Parameter(torch.tensor(-5.0))
        self.quantized, self.rounding = True, PLAIN
        self.fit_weight_steps()

    @torch.no_grad()
    def fit_weight_steps(self) -> None:
        """Set the step of each channel's weights to the power of two with the least squared error."""
        largest = self.weight.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-8)
        first = (largest / WEIGHT_LIMIT).log2().ceil()
        best, error = first, torch.full_like(first, math.inf)
        for exponent in (first, first - 1):
            rounded = round_to_grid(self.weight, exponent, -WEIGHT_LIMIT, WEIGHT_LIMIT)
            found = (rounded - self.weight).square().sum((1, 2, 3), keepdim=True)
            best, error = torch.where(found < error, exponent, best), torch.minimum(found, error)
        self.weight_exponent.copy_(best)

    def forward(self, x: Tensor, input_exponent: Tensor) -> tuple[Tensor, Tensor]:
        """Output and the exponent of its step, of an input on a grid of step `2 ** input_exponent`."""
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if self.quantized:
            weight = self.weight_on_grid()
            unit = torch.exp2(self.weight_exponent.detach().round().flatten() + input_exponent.detach().round())
            bias = ((bias / unit).round() * unit).detach() + (bias - bias.detach())  # the last term is an exact zero
        y = functional.conv2d(x, weight, bias, self.stride, self.padding, groups=self.groups)
        exponent = self.output_exponent
        return round_to_grid(y, exponent, self.low, self.high, self.quantized, self.rounding), exponent

    def weight_on_grid(self) -> Tensor:
        """Weights as the quantized layer uses them [Cout, Cin / groups, k, k]."""
        return round_to_grid(self.weight, self.weight_exponent, -WEIGHT_LIMIT, WEIGHT_LIMIT)

    @torch.no_grad()
    def to_integers(self, input_exponent: int, largest_input: int = UNSIGNED[1]) -> IntegerLayer:
        """The layer in whole numbers, for an input of at most `largest_input` steps of `2 ** input_exponent`.

        Runtimes turn a sum into float32 to requantize it, so a sum that is not clipped must be exact there.

        Raises:
            ValueError: a weight, bias or step is no finite number, or a bias or sum does not fit its integer type or
                exact float32.
        """
        if not all(bool(tensor.isfinite().all()) for tensor in self.parameters()):
            raise ValueError("a weight, bias or step is not a finite number")
        exponent = self.weight_exponent.round()
        scaled = self.weight.double() / torch.exp2(exponent.double())
        weight = scaled.round().clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
        unit = torch.exp2(exponent.double().flatten() + input_exponent)
        bias = (self.bias.double() / unit).round()
        largest = weight.abs().sum((1, 2, 3)) * largest_input + bias.abs()
        if float(largest.max()) > ACCUMULATOR:
            raise ValueError("a sum may leave int32")
        if float(bias.abs().max()) >= EXACT:
            raise ValueError("a bias exceeds exact float32; its steps are too small for it")
        unclipped = (max(-self.low, self.high) + 0.5) * torch.exp2(self.output_exponent.double().round()) / unit
        if float(torch.minimum(largest, unclipped).max()) >= EXACT:
            raise ValueError("a sum may exceed exact float32; its steps are too small for those of the output")
        return IntegerLayer(
            weight.to(torch.int8), bias.to(torch.int32), exponent.flatten().to(torch.int32), input_exponent,
            int(self.output_exponent.round()), self.low, self.high, self.stride, self.padding, self.groups,
        )  # fmt: skip
