"""Whole numbers in numpy: the executor that every runtime is held against, run from the model; golden pictures are the ONNX bundle's."""

import sys

from benchmarks.equality.places.base import Command, Place, Setting


def _worker(setting: Setting) -> Command:
    words = [sys.executable, "-m", "benchmarks.equality.worker", "model", str(setting.model.resolve())]
    return Command(words, {"OMP_NUM_THREADS": "1"})


PLACES = (Place(name="numpy", title="Whole numbers in numpy, the reference executor", target="onnx", worker=_worker),)
