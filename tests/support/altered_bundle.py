"""Bundles whose golden vectors were changed and listed anew."""

import safetensors.numpy

from edge_stscq.bundle.manifest import GOLDEN, Manifest, sha256_files


def change_golden(folder, change):
    """Rewrite the golden vectors by `change`, which is given the tensors, and list the file as it is then."""
    golden = safetensors.numpy.load_file(folder / GOLDEN)
    change(golden)
    safetensors.numpy.save_file(golden, folder / GOLDEN)
    manifest = Manifest.load(folder)
    Manifest.model_validate(manifest.model_dump() | {"files": sha256_files(folder)}).save(folder)
    return folder


def change_two_tokens(golden):
    """Make two golden tokens differ from what the artifact answers."""
    golden["tokens"][[2, 3], [5, 0]] ^= 1
