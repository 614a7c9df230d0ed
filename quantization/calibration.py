"""What calibration leaves behind: the range of every activation, small enough to be committed beside the weights.

A static int8 graph needs to know what values its activations take on real faces. The faces may not travel with the
model, their ranges may: two floats for each quantised tensor, named after the operator that makes it. They hold for one
backbone only, so its hash is kept with them.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import nn

from edge_stscq.errors import EdgeError
from edge_stscq.stream.files import write_file

FILE = "calibration.safetensors"
AGAIN = "run: edge-stscq quantize --model DIR --faces DIR_OR_TAR"


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranges of the activations of one backbone.

    Attributes:
        ranges: float32 `[2]` (lowest, highest representable value) by the name of the graph node that makes the tensor.
        count: pictures that were looked at.
        faces_sha256: hash of their pixels in the order in which they were looked at.
        backbone_sha256: hash of the weights that the ranges belong to.
    """

    ranges: Mapping[str, NDArray[np.float32]]
    count: int
    faces_sha256: str
    backbone_sha256: str

    def save(self, folder: Path) -> Path:
        """Write `folder/calibration.safetensors` in one step and return its path."""
        path = Path(folder) / FILE
        metadata = {field: str(getattr(self, field)) for field in ("count", "faces_sha256", "backbone_sha256")}
        write_file(path, safetensors.numpy.save(dict(self.ranges), metadata))
        return path

    @classmethod
    def load(cls, folder: Path) -> "Calibration":
        """Read `folder/calibration.safetensors`.

        Raises:
            EdgeError: there is none, or it is damaged.
        """
        path = Path(folder) / FILE
        if not path.exists():
            raise EdgeError(f"{path} does not exist and int8 needs it; {AGAIN}")
        try:
            with safe_open(path, "numpy") as file:
                metadata = file.metadata() or {}
                ranges = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            calibration = cls(ranges, int(metadata["count"]), metadata["faces_sha256"], metadata["backbone_sha256"])
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise EdgeError(f"{path} is damaged ({error}); {AGAIN}") from None
        for name, pair in ranges.items():
            if pair.dtype != np.float32 or pair.shape != (2,) or not np.isfinite(pair).all() or pair[0] > pair[1]:
                raise EdgeError(f"{path} holds no range for {name} (two ascending floats); {AGAIN}")
        return calibration

    def check(self, backbone: str) -> None:
        """Refuse a backbone (its hash) other than the calibrated one.

        Raises:
            EdgeError: the student was trained further or replaced since.
        """
        if backbone != self.backbone_sha256:
            raise EdgeError(f"the calibration belongs to another student (its weights differ); {AGAIN}")


def backbone_sha256(backbone: nn.Module) -> str:
    """Hash of names, shapes and values of all weights of a backbone, in hex."""
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        array = np.ascontiguousarray(tensor.detach().cpu().numpy())
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
