"""Whole numbers in numpy: the executor that every runtime is held against.

It runs the model; the golden pictures are those of the ONNX bundle.
"""

import sys

from benchmarks.equality.places.base import Command, Place, Setting
from edge_stscq.errors import EdgeError


def _worker(setting: Setting) -> Command:
    if setting.model is None:
        raise EdgeError(
            "the reference executor runs the model; say which the bundles were exported from: --model FOLDER"
        )
    words = [sys.executable, "-m", "benchmarks.equality.worker", "model", str(setting.model.resolve())]
    return Command(words, {"OMP_NUM_THREADS": "1"})


PLACES = (Place(name="numpy", title="Whole numbers in numpy, the reference executor", target="onnx", worker=_worker),)
