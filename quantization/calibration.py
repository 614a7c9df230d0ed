"""Result of a calibration: everything that makes the int8 graph of a student, small enough to be committed.

A static int8 graph needs to know what values its activations take on real faces. The faces may not travel with the
model, what was measured on them may: two floats for each quantised tensor, named after the operator that makes it, a
correction for each layer's bias, and the names of layers that are not to be int8. They hold for one backbone only, so
its hash is kept with them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import nn

from edge_stscq._files import write_file
from edge_stscq.errors import EdgeError

FILE = "calibration.safetensors"
AGAIN = "run: edge-stscq quantize --model DIR --faces DIR_OR_TAR"
_SCHEME = "static int8: backbone only, weights per channel symmetric, activations per tensor affine"
_BIAS = "bias."


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranges of the activations of one backbone, and how its layers differ from the student's in the int8 graph.

    Attributes:
        ranges: float32 `[2]` (lowest, highest representable value) by the name of the graph node that makes the tensor,
            for all tensors of the graph in which every layer is int8.
        count: pictures that were looked at.
        faces_sha256: hash of their pixels in the order in which they were looked at.
        backbone_sha256: hash of the weights that the ranges belong to.
        observer: how the ranges were chosen, e.g. `mse` or `percentile 99.99`.
        biases: float32 [C] by layer, added to its bias in the int8 graph; empty, or one for each layer.
        kept: layers that stay in full precision, in graph order.
    """

    ranges: Mapping[str, NDArray[np.float32]]
    count: int
    faces_sha256: str
    backbone_sha256: str
    observer: str
    biases: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    kept: tuple[str, ...] = ()

    @property
    def scheme(self) -> str:
        """One line for the manifest: what is int8 and how it came about."""
        corrected = "; biases corrected" if self.biases else ""
        kept = f"; kept in float32: {', '.join(self.kept)}" if self.kept else ""
        return f"{_SCHEME}; ranges by {self.observer}{corrected}{kept}"

    def save(self, folder: Path) -> Path:
        """Write `folder/calibration.safetensors` in one step and return its path."""
        path = Path(folder) / FILE
        metadata = {name: str(getattr(self, name)) for name in ("count", "faces_sha256", "backbone_sha256", "observer")}
        tensors = dict(self.ranges) | {_BIAS + layer: bias for layer, bias in self.biases.items()}
        write_file(path, safetensors.numpy.save(tensors, metadata | {"kept": json.dumps(self.kept)}))
        return path

    @classmethod
    def load(cls, folder: Path | None) -> "Calibration":
        """Read `folder/calibration.safetensors`; a model in memory has no folder, and so no calibration.

        Raises:
            EdgeError: there is none, or it is damaged.
        """
        if folder is None:
            raise EdgeError("a model in memory has no calibration of its own; give the one that `quantize` made")
        path = Path(folder) / FILE
        if not path.exists():
            raise EdgeError(f"{path} does not exist and int8 needs it; {AGAIN}")
        try:
            with safe_open(path, "numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            biases = {name[len(_BIAS) :]: tensor for name, tensor in tensors.items() if name.startswith(_BIAS)}
            ranges = {name: tensor for name, tensor in tensors.items() if not name.startswith(_BIAS)}
            calibration = cls(
                ranges, int(metadata["count"]), metadata["faces_sha256"], metadata["backbone_sha256"],
                metadata["observer"], biases, tuple(json.loads(metadata["kept"])),
            )  # fmt: skip
        except KeyError as error:
            raise EdgeError(f"{path} lacks {error}, it is damaged or of an earlier version; {AGAIN}") from None
        except (SafetensorError, TypeError, ValueError, OSError) as error:
            raise EdgeError(f"{path} is damaged ({error}); {AGAIN}") from None
        for name, pair in ranges.items():
            if pair.dtype != np.float32 or pair.shape != (2,) or not np.isfinite(pair).all() or pair[0] > pair[1]:
                raise EdgeError(f"{path} holds no range for {name} (two ascending floats); {AGAIN}")
        for name, bias in biases.items():
            if bias.dtype != np.float32 or bias.ndim != 1 or not np.isfinite(bias).all():
                raise EdgeError(f"{path} holds no bias for {name} (finite floats); {AGAIN}")
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
