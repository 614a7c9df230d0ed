"""Interface of a runtime: all that is known of one, from the package that brings it to how it loads an artifact."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_stscq.bundle.bundle import Bundle
from edge_stscq.bundle.manifest import REEXPORT_HINT
from edge_stscq.errors import BundleError, EdgeError, MissingExtraError

Outputs = tuple[ArrayLike, ArrayLike]
Runner = Callable[[NDArray[np.uint8]], Outputs]
"""uint8 `[1, 128, 128, 3]` to the group and the `T` tokens, with or without the batch dimension."""


@dataclass(frozen=True)
class Runtime(ABC):
    """One runtime; its module imports nothing of it before `load` is called.

    A runtime is checked against the manifest before it loads anything: a .pte is promised to load in the next release
    only, and a runtime that is too new may answer with other tokens instead of failing.
    """

    target: str
    """Name of the target whose artifacts it runs, as manifests have it."""
    title: str
    """For people, e.g. "ONNX Runtime"."""
    package: str
    """Distribution that brings it."""
    install: str
    """Requirement by which pip installs it, e.g. "edge-stscq[executorch]"."""
    modules: tuple[str, ...]
    """Modules that loading an artifact imports."""
    compiled_module: str | None = None
    """Compiled part of the package, missing where it was installed for another Python or processor."""
    needs_torch: bool = False

    def unavailable(self) -> str | None:
        """Why it cannot run on this operating system, with the way out; None where it can."""
        return None

    def set_threads(self, threads: int) -> None:
        """Set the threads of the process, where those of an artifact cannot be set when it is loaded."""
        del threads

    @abstractmethod
    def load(self, bundle: Bundle, threads: int) -> Runner:
        """Load the artifact of a bundle whose runtime range admits the installed version.

        Args:
            threads: threads of one inference, 0 for the runtime's own choice.

        Raises:
            MissingExtraError: the runtime is not installed.
            BundleError: it cannot load the artifact.
        """

    def open(self, bundle: Bundle, threads: int) -> Runner:
        """As `load`, after the operating system and the installed version were checked.

        Raises:
            MissingExtraError: the runtime is not installed.
            BundleError: its version is outside the manifest's range, or it cannot load the artifact.
            EdgeError: it does not run on this operating system.
        """
        if reason := self.unavailable():
            raise EdgeError(reason)
        self.version(bundle)
        return self.load(bundle, threads)

    def version(self, bundle: Bundle) -> str:
        """The installed runtime, once it is known to be in the manifest's range, e.g. "onnxruntime 1.31.1".

        Raises:
            MissingExtraError, BundleError: it is not installed, or not in range; the message holds the pip command.
        """
        admitted = bundle.manifest.runtime
        version = installed_version(admitted.package)
        if version is None:
            raise MissingExtraError(f"{admitted.package} is not installed; run: pip install '{self.install}'")
        if not admitted.admits(version):
            raise BundleError(
                f"this bundle was made for {admitted.requirement}, installed is {version}; "
                f"run: pip install '{admitted.requirement}'"
            )
        return f"{admitted.package} {version}"


def installed_version(package: str) -> str | None:
    """Version of a package, also where another build provides it (`onnxruntime-gpu` provides `onnxruntime`)."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        builds = metadata.packages_distributions().get(package, [])
        return metadata.version(builds[0]) if builds else None


def unloadable(bundle: Bundle, error: Exception) -> BundleError:
    """Error of an artifact that its runtime refuses, with the first line of what the runtime said."""
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return BundleError(f"{bundle.artefact} does not load ({reason}); {REEXPORT_HINT}")
