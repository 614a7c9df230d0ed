"""A student made for integers, captured for export.

Its graph is written with signed or with unsigned activations, as the target's kernels like it. Whole numbers say what
the golden pictures must give, so there are no ties: every runtime gives exactly these tokens, or the artefact is wrong.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError
from edge_stscq.stream import Codes
from targets import golden

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from edge_stscq.codec.integer.encoder import IntegerEncoder

SCHEME = (
    "trained in integers: activations on 8-bit grids, weights within 7 bits with one step for each channel, every step "
    "a power of two, biases and sums in int32; codebook search in whole numbers"
)
NO_WEIGHT_ONLY = "this student was made for integers and has no w8; choose --precision int8 or fp32"
_BATCH = 8


@dataclass(frozen=True, eq=False)
class IntegerGraphs:
    """The graphs of an integer student and its golden pictures.

    Attributes:
        unsigned, signed: the same graph with activations unsigned or signed.
        images: golden pictures uint8 [G, 128, 128, 3].
        expected: what whole numbers give for them.
    """

    unsigned: "ExportedProgram"
    signed: "ExportedProgram"
    images: NDArray[np.uint8]
    expected: Codes


def capture(student: "IntegerEncoder", books: NDArray[np.float32]) -> IntegerGraphs:
    """Write the student's graph both ways, check it and run it on the golden pictures.

    Args:
        books: codebooks float32 [M, T, K, D].

    Raises:
        EdgeError: a layer or operator that is not exact, by name; or a graph that differs from whole numbers.
    """
    import torch

    from quantization import captured_graph, run_graph
    from quantization.integer_check import check_exact
    from quantization.integer_graph import IntegerGraph, integer_program
    from quantization.reference import run_program

    program = integer_program(student)
    graphs = [captured_graph(IntegerGraph(program, signed).eval()) for signed in (False, True)]

    def analyze(pictures: NDArray[np.uint8]) -> golden.RoutingMargins:
        parts = [student.analyse(torch.from_numpy(part)) for part in np.array_split(pictures, len(pictures) // _BATCH)]
        logits, group, z = (
            np.concatenate([getattr(part, name).numpy() for part in parts]) for name in ("group_logits", "group", "z")
        )
        return golden.routing_margins(logits, group, z, books)

    images = golden.select(analyze, student.config.groups, unsure=0.0).images
    layers = len(student.config.layers)
    expected = Codes(*run_program(program, images), layers)
    for graph in graphs:
        check_exact(graph)
        if not expected.equal_tokens(Codes(*run_graph(graph, images), layers)).all():
            raise EdgeError("the graph gives other tokens than whole numbers do; this is a fault of the program")
    return IntegerGraphs(graphs[0], graphs[1], images, expected)
