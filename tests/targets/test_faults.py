"""1,000 damages to every file of a bundle, none accepted.

Damaged weights load and run in every runtime without a word; only the hash tells. Each damage is a byte that changed or
a file that was cut, at a place drawn from a fixed seed. All of them are refused where a file is read; the last of each
kind is also tried on the whole bundle, as a device opens it.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_stscq.bundle import open_bundle
from edge_stscq.errors import BundleError
from targets import TARGETS

FAULTS = 1000


def damages(path: Path, random: np.random.Generator) -> Iterator[None]:
    """Change a byte of the file or cut it, in turn, and mend it again after each time."""
    whole = path.read_bytes()
    for fault in range(FAULTS):
        place = int(random.integers(len(whole)))
        with path.open("r+b") as file:
            if fault % 2:
                file.truncate(place)
            else:
                file.seek(place)
                file.write(bytes([whole[place] ^ int(random.integers(1, 256))]))
        yield
        with path.open("r+b") as file:
            file.seek(place)
            file.write(whole[place:] if fault % 2 else whole[place : place + 1])


@pytest.mark.parametrize("target", [target.name for target in TARGETS])
def test_no_damaged_file_is_accepted(bundles: dict[str, Path], target: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundles[target], tmp_path / "bundle"))
    bundle, random = open_bundle(folder), np.random.default_rng(0)
    for name in bundle.manifest.files:
        for fault, _ in enumerate(damages(folder / name, random), start=1):
            with pytest.raises(BundleError, match="was altered"):
                bundle.read(name)
            if fault > FAULTS - 2:
                with pytest.raises(BundleError, match=f"{name} was altered"):
                    open_bundle(folder)
    open_bundle(folder)
