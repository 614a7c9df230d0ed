"""Description of a place: whose artefact it runs, and the command of its worker."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from edge_stscq.bundle import Bundle, open_bundle
from edge_stscq.bundle.manifest import TargetName

ROOT = Path(__file__).resolve().parents[3]
"""Of the repository: workers are started there."""


@dataclass(frozen=True)
class Setting:
    """Bundles under test, and the folders of a place's tools.

    Attributes:
        bundles: folder with `onnx-int8`, `executorch-int8` and `coreml-int8`.
        model: folder of the model that they were exported from, for the reference executor.
        cache: folder of emulators and packages that were fetched.
    """

    bundles: Path
    model: Path | None = None
    cache: Path = ROOT / ".cache"

    def bundle(self, target: TargetName) -> Bundle:
        """The int8 bundle of a target.

        Raises:
            BundleError: it is not there or was altered.
        """
        return open_bundle(self.bundles / f"{target}-int8")


class Command(NamedTuple):
    """A worker's command line and what its environment has more than ours."""

    words: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Place:
    """One row of the table.

    Attributes:
        name: word that `--place` takes; with the processor's features where they are the machine's.
        title: runtime and processor, for people.
        target: whose bundle it runs.
        worker: command that answers shards (`benchmarks/equality/worker.py` tells the protocol). It raises an EdgeError
            that says how to install what is missing.
        measured: agreement is measured only, not promised: a device of this target computes in another precision.
    """

    name: str
    title: str
    target: TargetName
    worker: Callable[[Setting], Command] = field(repr=False)
    measured: bool = False


def artifact_digest(bundle: Bundle) -> str:
    """SHA-256 over all files of a bundle's artefact; the same as long as the same is run."""
    files, artifact = bundle.manifest.files, bundle.manifest.artefact
    listed = [f"{name} {files[name]}" for name in sorted(files) if name.split("/")[0] == artifact]
    return sha256("\n".join(listed).encode()).hexdigest()


def python_worker(setting: Setting, target: TargetName) -> Command:
    """The Python worker over a target's bundle, in this interpreter."""
    words = [sys.executable, "-m", "benchmarks.equality.worker", "bundle", str(setting.bundle(target).folder.resolve())]
    return Command(words, {"OMP_NUM_THREADS": "1"})
