"""Peak throughput of a machine: a large matrix product, which no network on it exceeds by much."""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edge_stscq.errors import require

SIDE = 1024
"""Of the square matrices."""


def peak_fp32(threads: int) -> float:
    """10^9 operations a second of ONNX Runtime's product of float32 matrices.

    torch's own product, from a library that favours one maker's processors, has less than half of it on some others.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((SIDE, SIDE), np.float32) for _ in range(2))
    return _product_rate("MatMul", a, b, np.float32, threads)


def peak_int8(threads: int) -> float:
    """10^9 operations a second of ONNX Runtime's product of uint8 and int8 matrices, summed in int32.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    random = np.random.default_rng(0)
    a = random.integers(0, 256, (SIDE, SIDE), np.uint8)
    return _product_rate("MatMulInteger", a, random.integers(-127, 128, (SIDE, SIDE), np.int8), np.int32, threads)


def _product_rate(
    operator: str, a: NDArray[np.generic], b: NDArray[np.generic], result: DTypeLike, threads: int
) -> float:
    onnx, ort = require("onnx", "onnx"), require("onnxruntime", "onnx")
    kind = onnx.helper.np_dtype_to_tensor_dtype
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, ["a", "b"], ["y"])],
        "product",
        [onnx.helper.make_tensor_value_info("a", kind(a.dtype), a.shape)],
        [onnx.helper.make_tensor_value_info("y", kind(np.dtype(result)), a.shape)],
        [onnx.numpy_helper.from_array(b, "b")],
    )
    file = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(file.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return _rate(lambda: session.run(None, {"a": a}))


def _rate(product: Callable[[], object], rounds: int = 7) -> float:
    """The best of some rounds after an untimed one."""
    product()
    best = 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        product()
        best = max(best, 2 * SIDE**3 / (time.perf_counter() - start) / 1e9)
    return round(best, 1)
