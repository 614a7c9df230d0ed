"""Two pretrained face recognisers that judge whether a decoded face is still the same person.

- `sface`: OpenCV Zoo SFace, 128 dimensions. Training sees it, so what it says about our own faces is optimistic.
- `mobilefacenet192`: MobileFaceNet, 192 dimensions. Never trained with: the judge.

Each is a `.safetensors` file whose metadata carries the network's layout as JSON: a chain of layers for SFace, a
graph of named convolutions, PReLUs and additions for MobileFaceNet. Batch norms are folded into the convolutions and
the dense layer before them, which gives the same function with less work. Networks stay differentiable.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from edge_stscq.config.codec import CROP
from edge_stscq.data.embedding_cache import EmbeddingCache
from edge_stscq.errors import EdgeError

JUDGE = "mobilefacenet192"
TRAINED_WITH = "sface"
RECOGNISERS = (JUDGE, TRAINED_WITH)
INPUT = 112
"""Side in pixels of a recogniser's input, the centre of the crop."""
DATA_VARIABLE = "EDGE_STSCQ_DATA"
"""Environment variable naming the data folder; recognisers lie in its subfolder `recognisers`."""


class Recogniser(nn.Module):
    """A frozen network: RGB float [N,3,112,112] in 0..255, ArcFace-aligned -> raw embedding [N,D]."""

    def __init__(self, name: str, layers: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.layers = layers

    def forward(self, image: Tensor) -> Tensor:
        embedding: Tensor = self.layers((image - 127.5) / 128)
        return embedding

    @torch.no_grad()
    def embed(self, crops: NDArray[np.uint8] | Tensor, batch: int = 32) -> NDArray[np.float32]:
        """Unit embeddings float32 [N,D] of crops uint8 [N,128,128,3] RGB."""
        device = next(self.parameters()).device
        edge = (CROP - INPUT) // 2
        rows = []
        for part in torch.as_tensor(crops).split(batch):
            centre = part[:, edge : edge + INPUT, edge : edge + INPUT].to(device)
            rows.append(functional.normalize(self(centre.permute(0, 3, 1, 2).float())).cpu())
        return np.asarray(torch.cat(rows).numpy(), np.float32)


def embed_cached(net: Recogniser, crops: NDArray[np.uint8], folder: Path) -> NDArray[np.float32]:
    """As `net.embed`, reading and extending the vectors of this network that are kept in `folder`.

    Raises:
        EdgeError: the file there is damaged, or the folder cannot be written.
    """
    digests = [hashlib.sha1(crop.tobytes()).digest() for crop in crops]
    path = folder / f"{net.name}-{_digest(net)}.safetensors"

    def compute(missing: list[int]) -> Iterator[Tensor]:
        for part in (missing[start : start + 32] for start in range(0, len(missing), 32)):
            yield from torch.from_numpy(net.embed(crops[part]))

    return np.asarray(EmbeddingCache(path).vectors(digests, compute).numpy(), np.float32)


def _digest(net: nn.Module) -> str:
    """Short hash of a network's weights."""
    weights = b"".join(value.cpu().numpy().tobytes() for value in net.state_dict().values())
    return hashlib.sha256(weights).hexdigest()[:8]


class _Graph(nn.Module):
    """MobileFaceNet's layout: steps that read and write named values."""

    def __init__(self, layout: Sequence[Sequence[Any]]) -> None:
        super().__init__()
        self.layout = layout
        self.layers = nn.ModuleList(_graph_layer(*step) for step in layout)

    def forward(self, image: Tensor) -> Tensor:
        values = {"in": image}
        for step, layer in zip(self.layout, self.layers, strict=True):
            if step[0] == "conv":
                source = values[step[6]]
                if step[7] == "SAME":
                    source = functional.pad(source, _same_padding(source.shape[-1], step[3][0], step[4][0]))
                values[step[8]] = layer(source)
            elif step[0] == "prelu":
                values[step[3]] = layer(values[step[2]])
            else:
                values[step[3]] = values[step[1]] + values[step[2]]
        return values[self.layout[-1][-1]].flatten(1)


def _graph_layer(kind: str, *a: Any) -> nn.Module:
    if kind == "conv":
        return nn.Conv2d(a[0], a[1], tuple(a[2]), tuple(a[3]), groups=a[4])
    if kind == "prelu":
        return nn.PReLU(a[0])
    if kind == "add":
        return nn.Identity()
    raise ValueError(f"unknown step {kind}")


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int, int, int]:
    """TensorFlow's padding: the odd pixel goes to the right and the bottom."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2, total // 2, total - total // 2


def _chain_layer(kind: str, *a: Any) -> nn.Module:
    if kind == "conv":
        return nn.Conv2d(a[0], a[1], tuple(a[2]), tuple(a[3]), tuple(a[4]), groups=a[5], bias=False)
    if kind == "bn2":
        return nn.BatchNorm2d(a[0], eps=a[1])
    if kind == "bn1":
        return nn.BatchNorm1d(a[0], eps=a[1])
    if kind == "prelu":
        return nn.PReLU(a[0])
    if kind == "flat":
        return nn.Flatten()
    if kind == "fc":
        return nn.Linear(a[0], a[1])
    raise ValueError(f"unknown layer {kind}")


def fold(layers: Sequence[nn.Module]) -> nn.Sequential:
    """A chain in eval mode in which every batch norm right after a convolution or dense layer has become part of it."""
    folded: list[nn.Module] = []
    for layer in layers:
        last = folded[-1] if folded else None
        if isinstance(layer, nn.BatchNorm2d) and isinstance(last, nn.Conv2d):
            folded[-1] = fuse_conv_bn_eval(last, layer)
        elif isinstance(layer, nn.BatchNorm1d) and isinstance(last, nn.Linear):
            folded[-1] = fuse_linear_bn_eval(last, layer)
        else:
            folded.append(layer)
    return nn.Sequential(*folded)


def load_recogniser(path: Path) -> Recogniser:
    """Read one network, frozen, float32, in eval mode.

    Raises:
        EdgeError: the file is missing or is not one of the two recognisers.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        layout = json.loads(metadata["layout"])
        if metadata["kind"] == "sface":
            chain = nn.Sequential(*(_chain_layer(*step) for step in layout))
            chain.load_state_dict({key.removeprefix("body."): value for key, value in state.items()})
            layers: nn.Module = fold(list(chain.eval()))
        elif metadata["kind"] == "mobilefacenet192":
            layers = _Graph(layout)
            layers.load_state_dict(state)
        else:
            raise ValueError(f"unknown network {metadata['kind']}")
    except FileNotFoundError:
        raise EdgeError(f"{path} does not exist; give its folder with --recognisers or {DATA_VARIABLE}") from None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise EdgeError(f"{path} is not a recogniser of this program ({reason}); copy it again") from None
    return Recogniser(metadata["kind"], layers).eval().requires_grad_(False)


def recogniser_folder(given: Path | None = None) -> Path | None:
    """The folder given by the user, else `$EDGE_STSCQ_DATA/recognisers`, else None. A given folder must exist.

    Raises:
        EdgeError: the folder was named and is not there.
    """
    if given is None:
        root = os.environ.get(DATA_VARIABLE)
        if not root:
            return None
        given = Path(root) / "recognisers"
    if not given.is_dir():
        raise EdgeError(f"{given} is not a folder of recognisers; correct --recognisers or {DATA_VARIABLE}")
    return given


def load_recognisers(folder: Path, names: Sequence[str] = RECOGNISERS) -> dict[str, Recogniser]:
    """The named networks of a folder, each read from `<name>.safetensors`.

    Raises:
        EdgeError: a name is unknown, or a file is missing or damaged.
    """
    unknown = [name for name in names if name not in RECOGNISERS]
    if unknown:
        raise EdgeError(f"unknown recogniser {unknown[0]!r}; choose from {', '.join(RECOGNISERS)}")
    return {name: load_recogniser(folder / f"{name}.safetensors") for name in names}
