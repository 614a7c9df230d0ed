"""A student captured at one of the precisions that are exported."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from edge_stscq.bundle.manifest import Precision
from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.codec.store import Student
from edge_stscq.errors import EdgeError
from quantization.calibration import Calibration
from quantization.graph import captured_graph, quantized_encoder, weight_only_encoder


class CapturedEncoder(NamedTuple):
    """An encoder and its graph, which compute the same."""

    module: Student
    program: ExportedProgram
    """uint8 [1, 128, 128, 3] -> (group int32 [1], tokens int32 [1, T])"""


def capture(student: Student, precision: Precision, calibration: Calibration | None = None) -> CapturedEncoder:
    """Capture a student at a precision; `student` itself is left as it is.

    Args:
        student: in eval mode. One made for integers has a graph of its own for int8 (`quantization/integer_graph.py`).
        calibration: of this student, for int8 and w8.

    Raises:
        EdgeError: the calibration is absent or of another student, the student has no such precision, or torchao and
            ExecuTorch are not installed.
    """
    module = student
    if precision != "fp32":
        if not isinstance(student, EdgeEncoder):
            raise EdgeError(f"a student made for integers is not quantized to {precision}; capture it in fp32")
        if calibration is None:
            raise EdgeError(f"{precision} needs a calibration; run `edge-stscq quantize` first")
        module = (quantized_encoder if precision == "int8" else weight_only_encoder)(student, calibration)
    return CapturedEncoder(module, captured_graph(module))


def run_graph(
    program: ExportedProgram, images: NDArray[np.uint8], progress: Callable[[int], None] = lambda images: None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Groups int32 [N] and tokens int32 [N, T] of crops uint8 [N, 128, 128, 3], one at a time as on a device.

    Args:
        progress: told how many more crops were encoded.
    """
    graph, answers = program.module(), []
    with torch.no_grad():
        for image in images:
            answers.append(graph(torch.from_numpy(image[None].copy())))
            progress(1)
    groups, tokens = (torch.cat(part).numpy() for part in zip(*answers, strict=True))
    return groups, tokens
