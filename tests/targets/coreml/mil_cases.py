"""One case or more for each MIL operator: how it is built with coremltools, and what it must give.

The expected values are written without the executor's code: sums that define a convolution, values counted out by hand
at rounding ties, PyTorch where the executor uses numpy and numpy where it uses PyTorch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

Array = np.ndarray[Any, Any]

_RNG = np.random.default_rng(7)


def mb() -> Any:
    """coremltools' builder of programs, imported when a case is built: every worker of a run reads the cases."""
    from coremltools.converters.mil import Builder

    return Builder


def _floats(*shape: int) -> Array:
    return _RNG.normal(size=shape).astype(np.float32)


INPUTS = {
    "x": _floats(1, 4, 7, 6),
    "v": _floats(2, 5),
    "b": _floats(3, 5, 4),
    "i": np.array([[2, 0, 1], [3, 3, 0]], np.int32),
    "h": np.array([-200, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 300], np.float32),  # ties, and values out of int8's range
}
"""The program's inputs. A case names those that it reads."""

X, V, B, I, H = INPUTS.values()  # noqa: E741
VX, VV, VB = (torch.from_numpy(array).double() for array in (X, V, B))
WEIGHT, DEPTHWISE, BIAS = _floats(6, 4, 3, 3), _floats(4, 1, 3, 3), _floats(6)
ROWS, COLUMNS = _floats(3, 5), _floats(5)
MEAN, VARIANCE, GAMMA, BETA = _floats(4), np.abs(_floats(4)) + 0.5, _floats(4), _floats(4)
CODES = _RNG.integers(-128, 128, (6, 4, 3, 3)).astype(np.int8)
SCALES, ZEROS = np.abs(_floats(6)) + 0.01, _RNG.integers(-9, 9, 6).astype(np.int8)
DEQUANTIZED = np.stack([SCALES[o] * (CODES[o].astype(float) - ZEROS[o]) for o in range(6)])


class Case(NamedTuple):
    """An operator applied to inputs given by name, and the values that it must give."""

    name: str
    build: Callable[..., Any]
    expected: Any


def correlate(weight: Array, stride: int = 1, pad: tuple[int, int, int, int] = (0, 0, 0, 0), groups: int = 1) -> Array:
    """Convolution of X as the sum that defines it, in float64."""
    top, bottom, left, right = pad
    x = np.pad(X[0].astype(np.float64), ((0, 0), (top, bottom), (left, right)))
    outputs, depth, height, width = weight.shape
    rows, columns = (x.shape[1] - height) // stride + 1, (x.shape[2] - width) // stride + 1
    result = np.zeros((1, outputs, rows, columns))
    for o, r, c in np.ndindex(outputs, rows, columns):
        first = o // (outputs // groups) * depth
        top, left = r * stride, c * stride
        result[0, o, r, c] = (x[first : first + depth, top : top + height, left : left + width] * weight[o]).sum()
    return result


def channels(values: Array) -> Array:
    return values.reshape(1, -1, 1, 1)


def codes(scale: float, zero: int = 0) -> Array:
    """V in int8, value by value."""
    exact = [[round(float(np.float32(a) / np.float32(scale))) + zero for a in row] for row in V]
    return np.clip(exact, -128, 127)


def built(operator: str, source: str, **constants: Any) -> Callable[..., Any]:
    """The operator on one input: `x`, or `input` as the quantisation operators call it."""
    parameter = "input" if operator in ("quantize", "dequantize") else "x"
    return lambda **inputs: getattr(mb(), operator)(**{parameter: inputs[source]}, **constants)


def as_int32(build: Callable[..., Any]) -> Callable[..., Any]:
    """Outputs of a program are float32 or int32."""
    return lambda **inputs: mb().cast(x=build(**inputs), dtype="int32")


def int8_then(**constants: Any) -> Callable[..., Any]:
    """`dequantize` of v in int8 with scale 0.03 and zero point -5."""
    quantize = built("quantize", "v", scale=f32(0.03), zero_point=np.int8(-5), output_dtype="int8")
    return lambda **inputs: mb().dequantize(input=quantize(**inputs), **constants)


f32 = np.float32

CASES = (
    Case("add", built("add", "v", y=f32(0.7)), VV + 0.7),
    Case(
        "batch_norm",
        built("batch_norm", "x", mean=MEAN, variance=VARIANCE, gamma=GAMMA, beta=BETA, epsilon=f32(0.1)),
        channels(GAMMA) * (X - channels(MEAN)) / (channels(VARIANCE) + 0.1) ** 0.5 + channels(BETA),
    ),
    Case(
        "batch_norm, plain",
        built("batch_norm", "x", mean=MEAN, variance=VARIANCE),
        (X - channels(MEAN)) / (channels(VARIANCE) + 1e-5) ** 0.5,
    ),
    Case("cast", built("cast", "i", dtype="fp32"), [[2.0, 0.0, 1.0], [3.0, 3.0, 0.0]]),
    Case("clip", built("clip", "v", alpha=f32(-0.2), beta=f32(0.4)), VV.clamp(-0.2, 0.4)),
    Case("concat", lambda **a: mb().concat(values=[a["v"], a["v"]], axis=1), torch.cat([VV, VV], 1)),
    Case(
        "constexpr_affine_dequantize",
        lambda **a: mb().conv(
            x=a["x"],
            weight=mb().constexpr_affine_dequantize(
                quantized_data=CODES, scale=SCALES, zero_point=ZEROS, axis=np.int32(0)
            ),
        ),
        correlate(DEQUANTIZED),
    ),
    Case(
        "conv",
        built("conv", "x", weight=WEIGHT, bias=BIAS, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
        correlate(WEIGHT, 2, (1, 1, 1, 1)) + channels(BIAS),
    ),
    Case(
        "conv, asymmetric",
        built("conv", "x", weight=WEIGHT, pad_type="custom", pad=[0, 1, 2, 0]),
        correlate(WEIGHT, 1, (0, 1, 2, 0)),
    ),
    Case("conv, depthwise", built("conv", "x", weight=DEPTHWISE, groups=4), correlate(DEPTHWISE, groups=4)),
    Case("dequantize", int8_then(scale=f32(0.25), zero_point=np.int8(3)), 0.25 * (codes(0.03, -5) - 3)),
    Case(
        "dequantize, vector",
        int8_then(scale=np.array([0.5, 2], f32), zero_point=np.array([1, -1], np.int8), axis=0),
        np.array([[0.5], [2]]) * (codes(0.03, -5) - np.array([[1], [-1]])),
    ),
    Case("expand_dims", built("expand_dims", "v", axes=[0, -1]), V[None, :, :, None]),
    Case("gather", lambda **a: mb().gather(x=a["x"], indices=a["i"], axis=1), [[[X[0, k] for k in row] for row in I]]),
    Case("greater_equal", as_int32(built("greater_equal", "i", y=1)), [[1, 0, 1], [1, 1, 0]]),
    Case("identity", built("identity", "v"), V),
    Case("inverse", built("inverse", "v", epsilon=f32(0.5)), 1 / (VV + 0.5)),
    Case("inverse, default", built("inverse", "v"), 1 / (VV + 1e-4)),
    Case("linear", built("linear", "v", weight=ROWS, bias=BIAS[:3]), np.einsum("nk,ok->no", V, ROWS) + BIAS[:3]),
    Case("matmul", lambda **a: mb().matmul(x=a["v"], y=a["b"]), np.einsum("rk,gkc->grc", V, B)),
    Case(
        "matmul, transposed",
        lambda **a: mb().matmul(x=a["b"], y=a["v"], transpose_x=True, transpose_y=True),
        np.einsum("gkc,rk->gcr", B, V),
    ),
    Case("maximum", built("maximum", "v", y=f32(0.1)), VV.clamp_min(0.1)),
    Case("minimum", built("minimum", "v", y=f32(0.1)), VV.clamp_max(0.1)),
    Case("mul", built("mul", "v", y=COLUMNS), [[a * c for a, c in zip(row, COLUMNS, strict=True)] for row in V]),
    Case(
        "quantize",
        as_int32(built("quantize", "h", scale=f32(1), output_dtype="int8")),
        [-128, -2, -2, 0, 0, 2, 2, 127],
    ),
    Case(
        "quantize, uint8",
        as_int32(built("quantize", "h", scale=f32(0.5), zero_point=np.uint8(4), output_dtype="uint8")),
        [0, 0, 1, 3, 5, 7, 9, 255],
    ),
    Case(
        "quantize, vector",
        as_int32(built("quantize", "v", scale=np.array([0.01, 0.02], f32), output_dtype="int8", axis=0)),
        [codes(0.01)[0], codes(0.02)[1]],
    ),
    Case("real_div", lambda **a: mb().real_div(x=f32(1), y=a["v"]), VV.reciprocal()),
    Case("reduce_argmax", built("reduce_argmax", "b", axis=1), VB.argmax(1)),
    Case("reduce_argmin", built("reduce_argmin", "b", axis=-1, keep_dims=True), VB.argmin(-1, keepdim=True)),
    Case("reduce_l2_norm", built("reduce_l2_norm", "v", axes=[1], keep_dims=True), VV.norm(dim=1, keepdim=True)),
    Case("reduce_max", built("reduce_max", "b", axes=[0, 2]), VB.amax((0, 2))),
    Case("reduce_mean", built("reduce_mean", "v", axes=[-1]), VV.mean(-1)),
    Case("reduce_min", built("reduce_min", "v", axes=[1]), VV.amin(1)),
    Case("reduce_sum", built("reduce_sum", "b", axes=[0, 1], keep_dims=True), VB.sum((0, 1), keepdim=True)),
    Case("relu", built("relu", "v"), VV.clamp_min(0)),
    Case("reshape", built("reshape", "b", shape=[0, -1, 2]), VB.unflatten(2, (2, 2)).flatten(1, 2)),
    Case("rsqrt", lambda **a: mb().rsqrt(x=mb().relu(x=a["v"]), epsilon=f32(0.25)), (VV.clamp_min(0) + 0.25) ** -0.5),
    Case(
        "select",
        lambda **a: mb().select(cond=mb().greater_equal(x=a["v"], y=f32(0)), a=a["v"], b=f32(9)),
        [[a if a >= 0 else 9 for a in row] for row in V],
    ),
    Case("sigmoid_hard", built("sigmoid_hard", "v", alpha=f32(0.6), beta=f32(0.3)), (0.6 * VV + 0.3).clamp(0, 1)),
    Case(
        "slice_by_index",
        built(
            "slice_by_index", "x", begin=[0, 1, -5, 2], end=[1, 3, 7, 0], stride=[1, 1, 2, 1],
            end_mask=[True, False, False, True],
        ),
        VX[:, [1, 2]][:, :, [2, 4, 6]][:, :, :, [2, 3, 4, 5]],
    ),
    Case(
        "slice_by_index, squeezed",
        built(
            "slice_by_index", "x", begin=[0, 2, 3, 0], end=[0, 0, 5, 6], begin_mask=[False, False, True, False],
            squeeze_mask=[True, True, False, False],
        ),
        VX[0, 2, [0, 1, 2, 3, 4]],
    ),
    Case("sqrt", lambda **a: mb().sqrt(x=mb().mul(x=a["v"], y=a["v"])), VV.abs()),
    Case("squeeze", built("squeeze", "x", axes=[0, 1]), X[0]),
    Case("stack", lambda **a: mb().stack(values=[a["v"], a["v"]], axis=-1), torch.stack([VV, VV], -1)),
    Case("sub", lambda **a: mb().sub(x=f32(1), y=a["v"]), 1 - VV),
    Case(
        "thresholded_relu",
        built("thresholded_relu", "v", alpha=f32(-0.3)),
        [[a if a >= -0.3 else 0 for a in row] for row in V],
    ),
    Case("tile", built("tile", "v", reps=[2, 1]), VV.repeat(2, 1)),
    Case("transpose", built("transpose", "b", perm=[2, 0, 1]), VB.permute(2, 0, 1)),
)  # fmt: skip
