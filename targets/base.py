"""Interface of a target: all that is known of one, from its names to how it lowers the graph.

Every target lowers the same graph, a `torch.export.ExportedProgram` of one input and two outputs:

    image   uint8 [1, 128, 128, 3], the canonical crop in RGB
    group   int32 [1], tokens int32 [1, T]

in full precision, or with quantize and dequantize operators around the convolutions of the backbone (PT2E, int8).

A new target is two files and two rows: `targets/<name>.py` with a `Target` in the table of `targets/__init__.py`, and
`edge_stscq/device/runtimes/<name>.py` with a `Runtime` in the table beside it. Neither file may import torch or an
exporter at its top, since both tables are read by `--help`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edge_stscq.bundle import Bundle
from edge_stscq.bundle.manifest import Precision, RuntimeRange, TensorSpec
from edge_stscq.config.codec import CROP
from edge_stscq.device.runtimes import Runner, Runtime
from edge_stscq.errors import EdgeError, require

if TYPE_CHECKING:
    from torch.export import ExportedProgram

IMAGE, GROUP, TOKENS = "image", "group", "tokens"
"""Names of the artifact's input and outputs on every runtime that has names."""

IMAGE_SPEC = TensorSpec(name=IMAGE, shape=(1, CROP, CROP, 3), dtype="uint8", description="canonical crop, RGB, 0..255")


@dataclass(frozen=True)
class ReferenceExecutor(ABC):
    """Stands in for a runtime where it does not run, so that an artifact can be checked there."""

    title: str
    """For people and reports."""
    modules: tuple[str, ...]
    """Modules that loading an artifact imports."""
    needs_torch: bool

    @abstractmethod
    def load(self, bundle: Bundle) -> Runner:
        """Load the artifact of a bundle.

        Raises:
            MissingExtraError: what reads the artifact is not installed.
            EdgeError: the artifact is damaged.
        """


@dataclass(frozen=True)
class Target(ABC):
    """One target. Its module imports nothing heavy before one of the methods is called."""

    title: str
    """Short, for tables: "ONNX"."""
    artefact: str
    """File name in the bundle; a folder for Core ML."""
    description: str
    aliases: tuple[str, ...]
    extra: str
    """Extra of `pip install 'edge-stscq[...]'` with which this target can be exported."""
    packages: tuple[str, ...]
    """Packages of the extra that the export uses: looked for before any work begins, noted in the manifest."""
    runtime: Runtime
    supported: RuntimeRange
    """Versions of the runtime's package that a bundle is made for."""
    precisions: tuple[Precision, ...] = ("int8", "w8", "fp32")
    image: TensorSpec = IMAGE_SPEC
    """The artifact's input as its runtime sees it."""
    undelegated: str = ""
    """Name of the operators that `delegation` counts, for people: "operators in float"."""
    reference: ReferenceExecutor | None = None
    signed: bool = False
    """True if its int8 kernels want activations signed; a student made for integers is then written so."""

    @property
    def name(self) -> str:
        """As in manifests and on the command line."""
        return self.runtime.target

    @property
    def stand_in(self) -> ReferenceExecutor | None:
        """The reference executor where the runtime does not run here; None where it does, or there is none."""
        return self.reference if self.runtime.unavailable() else None

    def check_installed(self) -> None:
        """Look for the packages without importing them, which takes seconds.

        Raises:
            MissingExtraError: one is not installed.
        """
        for package in self.packages:
            if find_spec(package) is None:
                require(package, self.extra)

    def check_precision(self, precision: Precision) -> None:
        """Refuse a precision that this target has not.

        Raises:
            EdgeError: the message says which it has.
        """
        if precision not in self.precisions:
            raise EdgeError(f"{self.name} has no {precision}; choose --precision {' or '.join(self.precisions)}")

    @abstractmethod
    def lower(self, program: "ExportedProgram", path: Path) -> None:
        """Write the artifact of `program`, a file or a folder, at `path`; the same program gives the same bytes.

        Raises:
            EdgeError: the graph does not convert, or the artifact cannot be written.
        """

    def check_exact(self, path: Path) -> None:
        """Refuse the artifact at `path`, of a student made for integers, if a convolution is computed in float.

        Raises:
            EdgeError: the message names the layer or the operator.
        """
        del path

    def delegation(self, bundle: Bundle) -> dict[str, int] | None:
        """Operators that the runtime leaves to slower kernels, by kind; None where nothing can be left or told.

        Raises:
            MissingExtraError: what reads the artifact is not installed.
            EdgeError: the artifact is damaged.
        """
        del bundle
        return None
