"""Running a Core ML package where Core ML does not run.

coremltools converts on Linux, but only macOS predicts. This executor reads the saved package back from disk and runs
its MIL program operation by operation, so that parity and self-tests look at the artefact itself and not at the model
it came from. It gives the operators the meaning of their specification (`operators.py`), in float32 where the program
says so. What it cannot show is how a phone's accelerator rounds.

Every output is held against the type that the program declares for it, and an operator that is not known is named.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError
from targets.base import GROUP, IMAGE, TOKENS
from targets.coreml.operators import OPERATORS, Array
from targets.coreml.program import Operation, Program, Value, read_program

_CONSTANT = "constexpr_"  # operators that a device evaluates when it loads the model


class ReferenceProgram:
    """A program whose constant part has been evaluated.

    Raises:
        EdgeError: an operator is not known.
    """

    def __init__(self, program: Program) -> None:
        unknown = sorted({operation.kind for operation in program.operations} - OPERATORS.keys())
        if unknown:
            raise EdgeError(f"the reference executor does not know the MIL operator(s) {', '.join(unknown)}")
        self._program = program
        self._constants: dict[str, Value] = dict(program.constants)
        self._steps: list[Operation] = []
        for operation in program.operations:
            if operation.kind.startswith(_CONSTANT):
                self._constants[operation.name] = _execute(operation, self._constants)
            else:
                self._steps.append(operation)

    def evaluate(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the program on its named inputs and return its named outputs.

        Raises:
            EdgeError: an input is missing or of another type, or an operation does not fit its inputs.
        """
        values: dict[str, Value] = dict(self._constants)
        for tensor in self._program.inputs:
            given = inputs.get(tensor.name)
            if given is None or given.dtype != tensor.dtype or given.shape != tensor.shape:
                found = "nothing" if given is None else f"{given.dtype} {list(given.shape)}"
                raise EdgeError(f"input {tensor.name!r} is {tensor.dtype} {list(tensor.shape)}, not {found}")
            values[tensor.name] = given
        with _one_thread():
            for operation in self._steps:
                values[operation.name] = _execute(operation, values)
        return {name: np.asarray(values[name]) for name in self._program.outputs}

    def run(self, image: NDArray[np.uint8]) -> tuple[int, NDArray[np.int32]]:
        """Group and tokens int32 [T] of one crop uint8 [1, 128, 128, 3].

        Raises:
            EdgeError: the picture is not of this type and shape.
        """
        (tensor,) = self._program.inputs
        if image.dtype != np.uint8 or image.shape != tensor.shape:
            raise EdgeError(f"a picture is uint8 {list(tensor.shape)}, not {image.dtype} {list(image.shape)}")
        outputs = self.evaluate({IMAGE: image.astype(tensor.dtype)})
        return int(outputs[GROUP][0]), outputs[TOKENS][0].astype(np.int32)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The order of summation, and so the last bits, do not depend on the machine's cores; small nets gain nothing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _execute(operation: Operation, values: Mapping[str, Value]) -> Array:
    """The output of one operation, checked against its declared type."""
    arguments: dict[str, Value | tuple[Value, ...]] = {}
    for key, source in operation.inputs.items():
        if not isinstance(source, tuple):
            arguments[key] = source
        elif len(source) == 1:
            arguments[key] = values[source[0]]
        else:
            arguments[key] = tuple(values[name] for name in source)
    try:
        result = OPERATORS[operation.kind](**arguments)
    except (TypeError, ValueError, IndexError, KeyError, RuntimeError) as error:
        raise EdgeError(f"operation {operation.name!r} ({operation.kind}) cannot be run: {error}") from error
    (declared,) = operation.outputs
    if result.dtype != declared.dtype or result.shape != declared.shape:
        raise EdgeError(
            f"operation {operation.name!r} ({operation.kind}) gave {result.dtype} {list(result.shape)}, "
            f"the program declares {declared.dtype} {list(declared.shape)}"
        )
    return result


def load(path: Path) -> ReferenceProgram:
    """The program of the package at `path`, ready to run.

    Raises:
        EdgeError: the package is damaged or uses an operator that is not known.
        MissingExtraError: coremltools, which reads packages, is not installed.
    """
    return ReferenceProgram(read_program(path))
