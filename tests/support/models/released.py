"""The released model as this machine makes it; other processors and tools may make other bytes than the index lists."""

from dataclasses import dataclass
from pathlib import Path

from edge_stscq._released import MODEL
from edge_stscq.hub.publish import publish
from targets import find
from targets.captured import capture_model
from targets.writer import bundle_folder, write_bundle
from tests.conftest import REPOSITORY


@dataclass(frozen=True)
class Released:
    """Folder that `release_here` filled."""

    folder: Path

    @property
    def bundle(self) -> Path:
        """The bundle `onnx-int8`."""
        return self.folder / "bundles" / "onnx-int8"

    @property
    def place(self) -> Path:
        """A place to pull from."""
        return self.folder / "place"

    @property
    def index(self) -> Path:
        """The index that describes the place."""
        return self.folder / "index.json"


def release_here(folder: Path) -> None:
    """Export the released model for ONNX Runtime to a folder and publish it there."""
    model, (onnx,) = REPOSITORY / "models" / MODEL, find("onnx")
    released = Released(folder)
    write_bundle(capture_model(model, "int8"), onnx, bundle_folder(released.bundle.parent, onnx, "int8"))
    publish(model, released.bundle.parent, released.place, released.index)
