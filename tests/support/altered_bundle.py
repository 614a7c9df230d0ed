"""Bundles whose golden vectors were changed and listed anew."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy

from edge_stscq.bundle.manifest import GOLDEN, Manifest, sha256_files

Golden = dict[str, np.ndarray]


def change_golden(folder: Path, change: Callable[[Golden], None]) -> Path:
    """Rewrite the golden vectors by `change`, which is given the tensors, and list the file as it is then."""
    golden = safetensors.numpy.load_file(folder / GOLDEN)
    change(golden)
    safetensors.numpy.save_file(golden, folder / GOLDEN)
    manifest = Manifest.load(folder)
    Manifest.model_validate(manifest.model_dump() | {"files": sha256_files(folder)}).save(folder)
    return folder


def change_two_tokens(golden: Golden) -> None:
    """Make two golden tokens differ from what the artifact answers."""
    golden["tokens"][[2, 3], [5, 0]] ^= 1
