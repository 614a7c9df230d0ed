"""What a machine can do: the rate of a large matrix product, which no network on it exceeds by much."""

import time
from collections.abc import Callable

import numpy as np
import torch

from edge_stscq.errors import require

SIDE = 1024
"""Of the square matrices."""


def fp32_rate() -> float:
    """10^9 operations a second of torch's matrix product, on as many threads as torch is set to."""
    a = torch.randn(SIDE, SIDE)
    return _rate(lambda: a @ a)


def int8_rate(threads: int) -> float:
    """10^9 operations a second of ONNX Runtime's product of uint8 and int8 matrices, summed in int32.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    onnx, ort = require("onnx", "onnx"), require("onnxruntime", "onnx")
    kinds, shape = onnx.TensorProto, [SIDE, SIDE]
    weights = np.random.default_rng(0).integers(-127, 128, shape, np.int8)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "product",
        [onnx.helper.make_tensor_value_info("a", kinds.UINT8, shape)],
        [onnx.helper.make_tensor_value_info("y", kinds.INT32, shape)],
        [onnx.numpy_helper.from_array(weights, "b")],
    )
    file = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(file.SerializeToString(), options, providers=["CPUExecutionProvider"])
    a = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
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
