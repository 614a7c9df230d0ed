"""Pretrained face recognizers: is a decoded face still the same person?

- `sface`: OpenCV Zoo SFace, 128 dimensions. Training sees it, so what it says about our own faces is optimistic.
- `mobilefacenet192`: MobileFaceNet, 192 dimensions. Held out: training never sees it.

Each is a `.safetensors` file whose metadata names the network and carries its layout as JSON. Batch norms are fused
into the convolutions and the dense layer beside them, which gives the same function with less work. Networks stay
differentiable.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import nn

from edge_stscq.errors import EdgeError
from edge_stscq.recognizers.base import Recognizer, embed_cached
from edge_stscq.recognizers.mobilefacenet import load_mobilefacenet
from edge_stscq.recognizers.sface import fuse_batchnorms, load_sface

__all__ = [
    "HELD_OUT", "RECOGNIZERS", "SEEN_IN_TRAINING", "Recognizer", "embed_cached", "load_recognizer", "load_recognizers",
    "recognizer_folder",
]  # fmt: skip

HELD_OUT = "mobilefacenet192"
SEEN_IN_TRAINING = "sface"
RECOGNIZERS = (HELD_OUT, SEEN_IN_TRAINING)
DATA_VARIABLE = "EDGE_STSCQ_DATA"
"""Environment variable naming the data folder; recognizers lie in its subfolder `recognisers`."""


def load_recognizer(path: Path) -> Recognizer:
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
            layers: nn.Module = fuse_batchnorms(load_sface(state))
        elif metadata["kind"] == "mobilefacenet192":
            layers = load_mobilefacenet(state, layout)
        else:
            raise ValueError(f"unknown network {metadata['kind']}")
    except FileNotFoundError:
        raise EdgeError(f"{path} does not exist; give its folder with --recognisers or {DATA_VARIABLE}") from None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise EdgeError(f"{path} is not a recogniser of this program ({reason}); copy it again") from None
    return Recognizer(metadata["kind"], layers).eval().requires_grad_(False)


def recognizer_folder(given: Path | None = None) -> Path | None:
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


def load_recognizers(folder: Path, names: Sequence[str] = RECOGNIZERS) -> dict[str, Recognizer]:
    """The named networks of a folder, each read from `<name>.safetensors`.

    Raises:
        EdgeError: a name is unknown, or a file is missing or damaged.
    """
    unknown = [name for name in names if name not in RECOGNIZERS]
    if unknown:
        raise EdgeError(f"unknown recogniser {unknown[0]!r}; choose from {', '.join(RECOGNIZERS)}")
    return {name: load_recognizer(folder / f"{name}.safetensors") for name in names}
