"""What a target is: a row of the table in `targets/__init__.py` and a module with two functions.

Every target lowers the same graph, a `torch.export.ExportedProgram` of one input and two outputs:

    image   uint8 [1, 128, 128, 3], the canonical crop in RGB
    group   int32 [1], tokens int32 [1, T]

in full precision, or with quantize and dequantize operators around the convolutions of the backbone (PT2E, int8). A
target's module, `targets/<name>.py`, is imported only when it is used and offers one function, `lower`. A fourth target
is one file, one row, and a runtime in `edge_stscq/device/runtimes.py`.
"""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edge_stscq.codec.config import CROP
from edge_stscq.device.manifest import Precision, RuntimeRange, TargetName, TensorSpec
from edge_stscq.errors import require

if TYPE_CHECKING:
    from torch.export import ExportedProgram

IMAGE, GROUP, TOKENS = "image", "group", "tokens"
"""Names of the artefact's input and outputs on every runtime that has names."""

IMAGE_SPEC = TensorSpec(name=IMAGE, shape=(1, CROP, CROP, 3), dtype="uint8", description="canonical crop, RGB, 0..255")


class Prediction(NamedTuple):
    """What an artefact answers for `G` pictures."""

    groups: NDArray[np.int32]
    """[G]"""
    tokens: NDArray[np.int32]
    """[G, T]"""

    def equals(self, other: "Prediction") -> bool:
        """Whether all groups and tokens are the same."""
        return np.array_equal(self.groups, other.groups) and np.array_equal(self.tokens, other.tokens)


class Backend(Protocol):
    """A target's module."""

    def lower(self, program: "ExportedProgram", path: Path) -> None:
        """Write the artefact of `program`, a file or a folder, at `path`; the same program gives the same bytes.

        Raises:
            EdgeError: the graph does not convert.
        """


@dataclass(frozen=True)
class Target:
    """One row of the table."""

    name: TargetName
    artefact: str
    """File name in the bundle; a folder for Core ML."""
    description: str
    aliases: tuple[str, ...]
    extra: str
    """What `pip install 'edge-stscq[...]'` brings so that this target can be exported."""
    packages: tuple[str, ...]
    """What that extra installs and the export uses: looked for before any work begins, noted in the manifest."""
    runtime: RuntimeRange
    precisions: tuple[Precision, ...] = ("int8", "w8", "fp32")
    image: TensorSpec = IMAGE_SPEC
    """The artefact's input as its runtime sees it."""
    signed: bool = False
    """Whether its int8 kernels want activations signed; a student made for integers is then written so."""

    def check_installed(self) -> None:
        """Look for the packages without importing them, which takes seconds.

        Raises:
            MissingExtraError: one is not installed.
        """
        for package in self.packages:
            if find_spec(package) is None:
                require(package, self.extra)

    def backend(self) -> Backend:
        """The target's module; errors as `check_installed`."""
        self.check_installed()
        return cast(Backend, import_module(f"targets.{self.name}"))
