"""The meaning of MIL operators, as the documentation of coremltools' MIL operator sets iOS15 to iOS17 gives it.

Each function takes the operator's inputs by their MIL names and returns its one output. Arrays are numpy's; products of
matrices and convolutions go through PyTorch. Floats stay float32: 0-d constants carry their type. Accumulations differ
from a device's in the order of summation, hence in the last bits.

Rounding is to the nearest even integer, as in PyTorch and in coremltools' own constant folding; the specification
says "round". On equal values `reduce_argmin` and `reduce_argmax` take the first; the specification leaves it open.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

Array = NDArray[Any]
Operator = Callable[..., Array]

_CASTS = {
    "bool": np.bool_, "fp16": np.float16, "fp32": np.float32, "int8": np.int8, "uint8": np.uint8,
    "int16": np.int16, "uint16": np.uint16, "int32": np.int32,
}  # fmt: skip


def _unary(function: Callable[[Array], Array]) -> Operator:
    return lambda x: function(x)


def _binary(function: Callable[[Array, Array], Array]) -> Operator:
    return lambda x, y: function(x, y)


def _reduction(function: Callable[..., Any]) -> Operator:
    def reduce(x: Array, axes: Array | None = None, keep_dims: Array | bool = False) -> Array:
        over = None if axes is None else tuple(axes.tolist())
        return np.asarray(function(x, axis=over, keepdims=bool(keep_dims)))

    return reduce


def _arg_reduction(function: Callable[..., Any]) -> Operator:
    def reduce(x: Array, axis: Array | int = -1, keep_dims: Array | bool = False, output_dtype: str = "int32") -> Array:
        return np.asarray(function(x, axis=int(axis), keepdims=bool(keep_dims))).astype(_CASTS[output_dtype])

    return reduce


def _along(parameter: Array | None, axis: Array | int | None, rank: int) -> Array | None:
    """A quantisation parameter, scalar or vector along `axis`, shaped so that it broadcasts."""
    if parameter is None or parameter.ndim == 0:
        return parameter
    shape = [1] * rank
    shape[int(axis if axis is not None else 0)] = -1
    return parameter.reshape(shape)


def quantize(
    input: Array, scale: Array, output_dtype: str, zero_point: Array | None = None, axis: Array | None = None
) -> Array:
    """clip(round(input / scale) + zero_point) in the range of the output type."""
    dtype = _CASTS[output_dtype]
    quotient: Array = np.rint(input / _along(scale, axis, input.ndim))
    offset = _along(zero_point, axis, input.ndim)
    if offset is not None:
        quotient += offset.astype(np.float32)
    limits = np.iinfo(dtype)
    return np.clip(quotient, limits.min, limits.max, out=quotient).astype(dtype)


def dequantize(input: Array, scale: Array, zero_point: Array | None = None, axis: Array | None = None) -> Array:
    """scale * (input - zero_point)"""
    scale = scale if scale.ndim == 0 else np.asarray(_along(scale, axis, input.ndim))
    value = input.astype(scale.dtype)
    offset = _along(zero_point, axis, input.ndim)
    if offset is not None:
        value -= offset.astype(scale.dtype)
    value *= scale
    return value


def constexpr_affine_dequantize(quantized_data: Array, zero_point: Array, scale: Array, axis: Array) -> Array:
    """`dequantize` of a constant."""
    return dequantize(quantized_data, scale, zero_point, axis)


def conv(
    x: Array, weight: Array, bias: Array | None = None, strides: Array | None = None, pad_type: str = "valid",
    pad: Array | None = None, dilations: Array | None = None, groups: Array | int = 1,
) -> Array:  # fmt: skip
    """Correlation of x [n, C, H, W] with weight [C_out, C / groups, KH, KW]; pad is (top, bottom, left, right)."""
    if x.ndim != 4 or pad_type not in ("valid", "custom"):
        raise ValueError(f"convolution of rank {x.ndim} with pad_type {pad_type!r} is not supported")
    image = torch.from_numpy(x)
    padding = [0, 0]
    if pad_type == "custom" and pad is not None:
        top, bottom, left, right = pad.tolist()
        padding = [top, left]
        if (top, left) != (bottom, right):
            image, padding = F.pad(image, (left, right, top, bottom)), [0, 0]
    result = F.conv2d(
        image,
        torch.from_numpy(weight),
        None if bias is None else torch.from_numpy(bias),
        [1, 1] if strides is None else strides.tolist(),
        padding,
        [1, 1] if dilations is None else dilations.tolist(),
        int(groups),
    )
    return np.asarray(result.numpy())


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """x W^T + b"""
    result = F.linear(torch.from_numpy(x), torch.from_numpy(weight), None if bias is None else torch.from_numpy(bias))
    return np.asarray(result.numpy())


def matmul(x: Array, y: Array, transpose_x: Array | bool = False, transpose_y: Array | bool = False) -> Array:
    left, right = torch.from_numpy(x), torch.from_numpy(y)
    result = torch.matmul(left.mT if transpose_x else left, right.mT if transpose_y else right)
    return np.asarray(result.numpy())


def batch_norm(
    x: Array, mean: Array, variance: Array, gamma: Array | None = None, beta: Array | None = None,
    epsilon: Array | float = 1e-5,
) -> Array:  # fmt: skip
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta along the second axis."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    scale = 1 / np.sqrt(variance + np.asarray(epsilon, x.dtype)) * (1 if gamma is None else gamma)
    shift = 0 if beta is None else beta.reshape(shape)
    return np.asarray((x - mean.reshape(shape)) * scale.reshape(shape) + shift)


def inverse(x: Array, epsilon: Array | float = 1e-4) -> Array:
    """1 / (x + epsilon): not the plain reciprocal."""
    return np.asarray(1 / (x + np.asarray(epsilon, x.dtype)))


def rsqrt(x: Array, epsilon: Array | float = 1e-12) -> Array:
    """1 / sqrt(x + epsilon)"""
    return np.asarray(1 / np.sqrt(x + np.asarray(epsilon, x.dtype)))


def sigmoid_hard(x: Array, alpha: Array | float = 0.2, beta: Array | float = 0.5) -> Array:
    """min(max(alpha * x + beta, 0), 1)"""
    return np.asarray(np.clip(np.asarray(alpha, x.dtype) * x + np.asarray(beta, x.dtype), 0, 1))


def thresholded_relu(x: Array, alpha: Array | float = 1.0) -> Array:
    """x where x >= alpha, otherwise 0."""
    return np.asarray(np.where(x >= alpha, x, np.zeros((), x.dtype)))


def gather(
    x: Array, indices: Array, axis: Array | int = 0, batch_dims: Array | int = 0, validate_indices: Array | bool = False
) -> Array:
    """Slices of x along `axis`. Out-of-range indices, the negative ones among them, are undefined and raise here."""
    if int(batch_dims):
        raise ValueError("batch_dims is not supported")
    if indices.size and int(indices.min()) < 0:
        raise ValueError(f"index {int(indices.min())} is out of range")
    return np.take(x, indices, axis=int(axis))


def slice_by_index(
    x: Array, begin: Array, end: Array, stride: Array | None = None, begin_mask: Array | None = None,
    end_mask: Array | None = None, squeeze_mask: Array | None = None,
) -> Array:  # fmt: skip
    """x[begin:end:stride] on every axis; a mask drops the bound (or the axis, for `squeeze_mask`)."""

    def bound(values: Array, mask: Array | None, i: int) -> int | None:
        return None if mask is not None and mask[i] else int(values[i])

    index: list[int | slice] = []
    for i in range(x.ndim):
        if squeeze_mask is not None and squeeze_mask[i]:
            index.append(int(begin[i]))
        else:
            step = None if stride is None else int(stride[i])
            index.append(slice(bound(begin, begin_mask, i), bound(end, end_mask, i), step))
    return np.asarray(x[tuple(index)])


def _tuple(values: Array | tuple[Array, ...]) -> tuple[Array, ...]:
    return values if isinstance(values, tuple) else (values,)


def concat(values: Array | tuple[Array, ...], axis: Array, interleave: Array | bool = False) -> Array:
    if interleave:
        raise ValueError("interleave is not supported")
    return np.concatenate(_tuple(values), axis=int(axis))


def squeeze(x: Array, axes: Array | None = None) -> Array:
    """Drop the given axes of length 1; axes of another length are left alone, as in PyTorch."""
    chosen = range(x.ndim) if axes is None else [int(axis) % x.ndim for axis in axes]
    return np.squeeze(x, axis=tuple(axis for axis in chosen if x.shape[axis] == 1))


def reshape(x: Array, shape: Array) -> Array:
    """-1 stands for what remains, 0 for the length of the same axis of x."""
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape.tolist())])


OPERATORS: dict[str, Operator] = {
    "add": _binary(np.add),
    "batch_norm": batch_norm,
    "cast": lambda x, dtype: x.astype(_CASTS[dtype]),
    "clip": lambda x, alpha, beta: np.clip(x, alpha, beta),
    "concat": concat,
    "constexpr_affine_dequantize": constexpr_affine_dequantize,
    "conv": conv,
    "dequantize": dequantize,
    "expand_dims": lambda x, axes: np.expand_dims(x, tuple(axes.tolist())),
    "gather": gather,
    "greater_equal": _binary(np.greater_equal),
    "identity": _unary(lambda x: x),
    "inverse": inverse,
    "linear": linear,
    "matmul": matmul,
    "maximum": _binary(np.maximum),
    "minimum": _binary(np.minimum),
    "mul": _binary(np.multiply),
    "quantize": quantize,
    "real_div": _binary(np.true_divide),
    "reduce_argmax": _arg_reduction(np.argmax),
    "reduce_argmin": _arg_reduction(np.argmin),
    "reduce_l2_norm": _reduction(lambda x, **over: np.sqrt(np.sum(x * x, **over))),
    "reduce_max": _reduction(np.max),
    "reduce_mean": _reduction(np.mean),
    "reduce_min": _reduction(np.min),
    "reduce_sum": _reduction(np.sum),
    "relu": _unary(lambda x: np.maximum(x, np.zeros((), x.dtype))),
    "reshape": reshape,
    "rsqrt": rsqrt,
    "select": lambda cond, a, b: np.asarray(np.where(cond, a, b)),
    "sigmoid_hard": sigmoid_hard,
    "slice_by_index": slice_by_index,
    "sqrt": _unary(np.sqrt),
    "squeeze": squeeze,
    "stack": lambda values, axis: np.stack(_tuple(values), axis=int(axis)),
    "sub": _binary(np.subtract),
    "thresholded_relu": thresholded_relu,
    "tile": lambda x, reps: np.tile(x, reps.tolist()),
    "transpose": lambda x, perm: x.transpose(perm.tolist()),
}
"""Type of an operation -> its meaning."""
