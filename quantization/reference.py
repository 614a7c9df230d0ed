"""Reference executor of a student made for integers, in numpy: what every runtime's tokens are held against.

It shares nothing with the graphs that are exported but the whole numbers of `integer_program`. Products are summed in
double, which holds every whole number up to 2**53 while a sum here stays below 2**31: exact in any order, so that a
BLAS may choose it. Requantization is a multiplication by a power of two, also exact, and one rounding half to even.
"""

import numpy as np
from numpy.typing import NDArray

from edge_stscq.codec.integer.grid import IntegerLayer
from edge_stscq.codec.trunk import INPUT
from edge_stscq.config.codec import CROP
from quantization.integer_graph import IntegerProgram

_MARGIN = (CROP - INPUT) // 2


def run_program(program: IntegerProgram, images: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Groups int32 [N] and tokens int32 [N, T] of pictures uint8 [N, 128, 128, 3].

    The lowest index wins a tie, of groups and of codebook entries.
    """
    picture = images.transpose(0, 3, 1, 2).astype(np.int32) - 128
    x = picture[:, :, _MARGIN : CROP - _MARGIN, _MARGIN : CROP - _MARGIN]
    for layer in program.identity:
        x = convolve(layer, x)
    spatial = convolve(program.transform, convolve(program.shrink, picture))
    zero = np.zeros((len(images), 1), np.int32)
    components = np.concatenate([x.reshape(len(x), -1), spatial.reshape(len(x), -1), zero], axis=1)
    books = program.books.numpy()
    z = components[:, program.slots.numpy()].reshape(len(images), books.shape[1], -1)
    groups, tokens = zip(*(_search(books, program.first, vectors) for vectors in z), strict=True)
    return np.array(groups, np.int32), np.stack(tokens).astype(np.int32)


def convolve(layer: IntegerLayer, x: NDArray[np.integer]) -> NDArray[np.int32]:
    """One layer on whole numbers [N, C, S, S]: [N, Cout, S', S'] within `layer.low` and `layer.high`."""
    outputs, inputs, kernel, _ = layer.weight.shape
    weight = layer.weight.numpy().astype(np.float64).reshape(layer.groups, outputs // layer.groups, inputs, kernel**2)
    margin = (layer.padding, layer.padding)
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), margin, margin))
    side = (padded.shape[-1] - kernel) // layer.stride + 1
    taken = layer.stride * (side - 1) + 1
    sums = np.zeros((len(x), layer.groups, outputs // layer.groups, side * side))
    for tap in range(kernel**2):
        row, column = divmod(tap, kernel)
        seen = padded[:, :, row : row + taken : layer.stride, column : column + taken : layer.stride]
        sums += weight[..., tap] @ seen.reshape(len(x), layer.groups, inputs, side * side)
    y = sums.reshape(len(x), outputs, side, side) + layer.bias.numpy().astype(np.float64)[:, None, None]
    scaled = y * np.exp2(layer.shift.numpy().astype(np.float64))[:, None, None]
    return np.rint(scaled).clip(layer.low, layer.high).astype(np.int32)


def _search(books: NDArray[np.int32], first: int, vectors: NDArray[np.int32]) -> tuple[int, NDArray[np.integer]]:
    """Group and tokens [T] of token vectors [T, D]: the nearest of all entries, by squared distance."""
    group = 0
    if len(books) > 1:
        errors = np.square(vectors[None, :first, None] - books[:, :first]).sum(-1)
        group = int(errors.min(-1).sum(-1).argmin())
    return group, np.square(vectors[:, None] - books[group]).sum(-1).argmin(-1)
