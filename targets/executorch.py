"""ExecuTorch: a `.pte` whose convolutions and matrix products run in XNNPACK.

XNNPACK takes quantize, operator, dequantize together as one integer kernel; the few operators that it does not know
(picture layout, arg-min, gathering a group's codebooks) run in ExecuTorch's portable kernels.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from edge_stscq._files import write_file
from edge_stscq._quiet import quiet
from edge_stscq.errors import EdgeError, require

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def lower(program: "ExportedProgram", path: Path) -> None:
    """Write the graph as a `.pte` file.

    Raises:
        EdgeError: XNNPACK cannot take the graph, or takes no part of it.
    """
    with quiet():
        exir = require("executorch.exir", "executorch")
        partitioner = require("executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch")
        try:
            edge = exir.to_edge_transform_and_lower(program, partitioner=[partitioner.XnnpackPartitioner()])
            lowered = edge.to_executorch()
        except Exception as error:  # ExecuTorch's passes raise bare exceptions
            cause = error.__cause__ or error
            reason = str(cause).strip().splitlines()[-1:] or [type(cause).__name__]
            raise EdgeError(f"the graph does not lower to ExecuTorch: {reason[0]}") from error
    if not lowered.executorch_program.execution_plan[0].delegates:
        raise EdgeError("XNNPACK took no part of the graph; the artefact would run unaccelerated")
    write_file(path, lowered.buffer)
