"""Worker process of every place that runs Python: answers shards of crops until its standard input ends.

    python -m benchmarks.equality.worker bundle FOLDER      -> its artifact in its runtime
    python -m benchmarks.equality.worker model FOLDER       -> its student in whole numbers, by numpy

The protocol, which workers in other languages speak too: once it is ready the worker writes one line "@ " and a JSON
object that tells its runtime. An order is one line, SHARD<tab>ANSWERS, two paths; the worker reads the raw crops,
writes the answers in their canonical form and then one line "@ done". Lines without "@ " are a library's chatter. An
error ends the worker with an exit code other than 0, its last line on standard error telling why.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.equality.answers import pack
from edge_stscq.config.codec import CROP
from edge_stscq.errors import EdgeError

Encode = Callable[[NDArray[np.uint8]], tuple[NDArray[np.integer], NDArray[np.integer]]]
"""Crops uint8 [N, 128, 128, 3] to groups [N] and tokens [N, T]."""
READY = "@ "
_BATCH = 16


def load_bundle(folder: Path) -> tuple[Encode, str]:
    """Artefact of a bundle in its runtime with one thread; Core ML's in the reference executor."""
    from edge_stscq.bundle import open_bundle
    from targets.subprocess_check import load_encoder_or_reference

    encoder = load_encoder_or_reference(open_bundle(folder), threads=1)

    def encode(crops: NDArray[np.uint8]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        groups, tokens = zip(*map(encoder.run, crops), strict=True)
        return np.array(groups), np.stack(tokens)

    return encode, encoder.runtime


def load_model(folder: Path) -> tuple[Encode, str]:
    """Student of a model folder in the reference executor.

    Raises:
        EdgeError: it was not made for integers.
    """
    from edge_stscq.codec.integer.encoder import IntegerEncoder
    from edge_stscq.codec.store import load_student
    from quantization.integer_graph import integer_program
    from quantization.reference import run_program

    student = load_student(folder)
    if not isinstance(student, IntegerEncoder):
        raise EdgeError(
            f"the student of {folder.name} was not made for integers, so whole numbers say nothing of its tokens; "
            "leave the place numpy out"
        )
    program = integer_program(student)

    def encode(crops: NDArray[np.uint8]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        parts = [run_program(program, crops[start : start + _BATCH]) for start in range(0, len(crops), _BATCH)]
        groups, tokens = zip(*parts, strict=True)
        return np.concatenate(groups), np.concatenate(tokens)

    return encode, f"numpy {np.__version__}"


LOADERS: dict[str, Callable[[Path], tuple[Encode, str]]] = {"bundle": load_bundle, "model": load_model}
"""Loaders of subjects, by the word before the path; each returns the function that encodes and the runtime's name."""


def main(kind: str, path: Path) -> None:
    """Serve orders; see the module."""
    encode, runtime = LOADERS[kind](path)
    print(READY + json.dumps({"runtime": runtime}), flush=True)
    for line in sys.stdin:
        shard, answers = map(Path, line.rstrip("\n").split("\t"))
        crops = np.fromfile(shard, np.uint8).reshape(-1, CROP, CROP, 3)
        answers.write_bytes(pack(*encode(crops)))
        print(READY + "done", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except EdgeError as error:
        sys.exit(f"error: {error}")
