"""ExecuTorch: a `.pte` whose convolutions and matrix products run in XNNPACK.

XNNPACK takes quantize, operator, dequantize together as one integer kernel; the few operators that it does not know
(picture layout, arg-min, gathering a group's codebooks) run in ExecuTorch's portable kernels.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_stscq._files import write_file
from edge_stscq._quiet import silence_exporters
from edge_stscq.bundle import Bundle
from edge_stscq.bundle.manifest import RuntimeRange
from edge_stscq.device.runtimes import executorch as runtime
from edge_stscq.errors import EdgeError, require
from targets.base import Target

if TYPE_CHECKING:
    from torch.export import ExportedProgram


@dataclass(frozen=True)
class ExecuTorchTarget(Target):
    """ExecuTorch's program for the XNNPACK delegate."""

    def lower(self, program: "ExportedProgram", path: Path) -> None:
        """Write the graph as a `.pte` file.

        Raises:
            EdgeError: XNNPACK cannot take the graph, or takes no part of it.
        """
        with silence_exporters(), _shared_origins(), _no_foreign_patterns():
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

    def check_exact(self, path: Path) -> None:
        """Refuse a file in which a convolution stays outside the delegate."""
        left = [kind for kind in _outside_delegate(path.read_bytes()) if "conv" in kind]
        if left:
            raise EdgeError(f"XNNPACK leaves {left[0]} to a kernel outside it; the artefact is not made for integers")

    def delegation(self, bundle: Bundle) -> dict[str, int] | None:
        """Calls of portable kernels beside the calls of the XNNPACK delegate."""
        return _outside_delegate(bundle.read(bundle.manifest.artefact))


@contextmanager
def _shared_origins() -> Iterator[None]:
    """Share the records of a node's origin while the block runs: it takes a quarter less time, for the same bytes.

    torch copies a node's whole history for each node of each pass, and ExecuTorch makes over a hundred passes.
    """
    from torch.fx.traceback import NodeSource

    NodeSource.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del NodeSource.__deepcopy__  # type: ignore[attr-defined]


@contextmanager
def _no_foreign_patterns() -> Iterator[None]:
    """Look for no bilinear upsampling and no attention while the block runs: no encoder holds either.

    ExecuTorch traces examples of both before it looks for them: half the time of a process's first export of a small
    encoder, for the same bytes.
    """
    graphs = "executorch.backends.xnnpack.partition.graphs"
    bilinear, attention = (require(f"{graphs}.{name}", "executorch") for name in ("bilinear_2d", "sdpa"))
    before = bilinear.get_graphs_dict, attention.get_graphs
    bilinear.get_graphs_dict, attention.get_graphs = dict, list  # type: ignore[attr-defined]
    try:
        yield
    finally:
        bilinear.get_graphs_dict, attention.get_graphs = before  # type: ignore[attr-defined]


def _outside_delegate(data: bytes) -> dict[str, int]:
    with silence_exporters():
        reader = require("executorch.exir._serialize._program", "executorch")
        schema = require("executorch.exir.schema", "executorch")
    try:
        program = reader.deserialize_pte_binary(data).program
    except Exception as error:  # ExecuTorch's reader raises bare exceptions
        raise EdgeError(f"the .pte cannot be read ({error}); export the bundle again") from error
    counts: Counter[str] = Counter()
    for plan in program.execution_plan:
        for chain in plan.chains:
            calls = [step.instr_args for step in chain.instructions if isinstance(step.instr_args, schema.KernelCall)]
            counts.update(plan.operators[call.op_index].name.removeprefix("aten::") for call in calls)
    return dict(sorted(counts.items()))


TARGET = ExecuTorchTarget(
    title="ExecuTorch",
    artefact="encoder.pte",
    description="ExecuTorch with XNNPACK: Android, iOS, Linux on Arm",
    aliases=("pte", "et", "xnnpack"),
    extra="executorch",
    packages=("torch", "executorch"),
    runtime=runtime.RUNTIME,
    supported=RuntimeRange(package="executorch", minimum="1.5", maximum_exclusive="1.7"),
    precisions=("int8", "fp32"),  # XNNPACK's convolutions take int8 weights with int8 activations only
    signed=True,
    undelegated="operators outside the delegate",
)
