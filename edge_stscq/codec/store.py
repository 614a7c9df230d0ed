"""A model folder: configuration and weights as JSON and safetensors, every file written under a temporary name first.

    config.json              CodecConfig
    identity.safetensors     the teacher's identity trunk (float16)
    teacher.safetensors      the rest of the teacher
    student.safetensors      the device's encoder
    decoder.safetensors      the server's decoder
    codebooks.safetensors    books [M, T, K, D]
    tables.safetensors       integer frequency tables
    learned.safetensors      the learned coder (int8), of a model that has one
    calibration.safetensors  int8 ranges (written by `edge-stscq quantize`)

The codebooks stand in one file only and are joined to whatever is loaded.

A configuration with `student_layers` has a student made for integers and its teacher (`codec/integer/encoder.py`). This
student's weights stay in float32: rounded to float16 they would be other integers.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edge_stscq.bundle.model_folder import load_config
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import EdgeEncoder, student, teacher
from edge_stscq.codec.integer.encoder import IntegerEncoder, ReferenceEncoder, on_token_grid
from edge_stscq.codec.integer.grid import GridConv
from edge_stscq.config.codec import CodecConfig
from edge_stscq.errors import EdgeError
from edge_stscq.stream.tables import Tables

_BOOKS = "codebooks.books"
_IDENTITY = "backbone.identity."
_TRUNK = "trunk."

Teacher = EdgeEncoder | ReferenceEncoder
"""The full-precision reference encoder of a model folder."""
Student = EdgeEncoder | IntegerEncoder
"""The device's encoder of a model folder."""


def save_weights(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Write tensors to `path`; floats are stored as `dtype` if given. The earlier file stays whole on failure."""
    ready = {k: (v.to(dtype) if dtype and v.is_floating_point() else v).cpu().contiguous() for k, v in tensors.items()}
    temporary = path.with_name(path.name + ".part")
    try:
        save_file(ready, temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:  # safetensors wraps what the disk says in its own
        temporary.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or error
        raise EdgeError(f"cannot write {path}: {reason}; free some space and run again") from error


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors as float32.

    Raises:
        EdgeError: the file is missing or damaged.
    """
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise EdgeError(f"{path} does not exist; the model folder is incomplete, train or copy it again") from None
    except (SafetensorError, OSError) as error:
        raise EdgeError(f"{path} is damaged ({error}); copy the model folder again") from None
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def load_books(folder: Path) -> Tensor:
    """Codebooks float32 [M, T, K, D]; T is 1 where a group shares one codebook."""
    return load_weights(Path(folder) / "codebooks.safetensors")["books"]


def load_teacher(folder: Path) -> Teacher:
    """The full-precision reference encoder, in eval mode."""
    config, state = load_config(folder), load_weights(Path(folder) / "teacher.safetensors")
    trunk = load_weights(Path(folder) / "identity.safetensors")
    prefix = _TRUNK if config.student_layers else _IDENTITY
    encoder = ReferenceEncoder(config) if config.student_layers else teacher(config)
    return _finish(encoder, state | {prefix + k: v for k, v in trunk.items()}, folder, "teacher.safetensors")


def load_student(folder: Path) -> Student:
    """The device's encoder, in eval mode: in float32, or made for integers."""
    config, state = load_config(folder), load_weights(Path(folder) / "student.safetensors")
    encoder = IntegerEncoder(config) if config.student_layers else student(config)
    return _finish(encoder, state, folder, "student.safetensors")


def load_decoder(folder: Path) -> Decoder:
    """The server's decoder, in eval mode."""
    state = load_weights(Path(folder) / "decoder.safetensors")
    return _finish(Decoder(load_config(folder)), state, folder, "decoder.safetensors")


_Module = TypeVar("_Module", bound=nn.Module)


def _finish(module: _Module, state: dict[str, Tensor], folder: Path, name: str) -> _Module:
    state[_BOOKS] = load_books(folder)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise EdgeError(f"{Path(folder) / name} does not fit config.json: {first}") from None
    return module.eval().requires_grad_(False)


def _without(state: Mapping[str, Tensor], prefixes: Iterable[str]) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if not k.startswith(tuple(prefixes))}


def save_teacher(folder: Path, encoder: Teacher) -> None:
    """Write the teacher: its identity trunk apart, as float16, and the codebooks."""
    state = encoder.state_dict()
    prefix = _IDENTITY if isinstance(encoder, EdgeEncoder) else _TRUNK
    trunk = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
    save_weights(folder / "identity.safetensors", trunk, torch.float16)
    save_weights(folder / "teacher.safetensors", _without(state, (prefix, _BOOKS)))
    save_weights(folder / "codebooks.safetensors", {"books": encoder.codebooks.books})


def round_as_stored(encoder: EdgeEncoder) -> None:
    """Give a student in memory the values that `save_student` would give it on disk, in place."""
    encoder.backbone.identity.half().float()


def save_student(folder: Path, encoder: Student) -> None:
    """Write the student, the bulk of it as float16.

    Weights of one made for integers are written as they lie on their grids, which float16 holds exactly: rounding
    them to float16 first would move those between two steps.
    """
    state = _without(encoder.state_dict(), (_BOOKS,))
    if isinstance(encoder, IntegerEncoder):
        halved = state | _weights_on_grids(encoder)
    else:
        halved = {k: v.half() if k.startswith(_IDENTITY) else v for k, v in state.items()}
    save_weights(folder / "student.safetensors", halved)


@torch.no_grad()
def _weights_on_grids(encoder: IntegerEncoder) -> dict[str, Tensor]:
    """Weights of all layers on their grids, as float16 where that is exact."""
    found = {}
    for name, layer in encoder.named_modules():
        if isinstance(layer, GridConv):
            exact = layer.weight_on_grid()
            half = exact.half()
            found[f"{name}.weight"] = half if torch.equal(half.float(), exact) else exact
    return found


def save_decoder(folder: Path, decoder: Decoder) -> None:
    save_weights(folder / "decoder.safetensors", _without(decoder.state_dict(), (_BOOKS,)))


def _integers(config: CodecConfig) -> tuple[ReferenceEncoder, IntegerEncoder]:
    """Teacher and student of random weights and codebooks; entries beyond a layer's share are copies of the first."""
    encoder, small = ReferenceEncoder(config), IntegerEncoder(config)
    books = on_token_grid(encoder.codebooks.books)
    if config.token_specific:
        start = 0
        for layer, end in zip(config.layers, config.layer_ends, strict=True):
            books[:, start:end, layer.entries or config.entries :] = books[:, start:end, :1]
            start = end
    encoder.codebooks.books.copy_(books)
    encoder.layout.deal(encoder.head.projection.abs().sum(0) > 0)
    encoder.spatial.transform.fit_weight_steps()
    small.share_tables(encoder)
    return encoder, small


def create(folder: Path, config: CodecConfig, seed: int = 0) -> None:
    """Write a complete model folder of random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, small = _integers(config) if config.student_layers else (teacher(config), student(config))
        decoder = Decoder(config)
    config.save(folder / "config.json")
    save_teacher(folder, encoder)
    save_student(folder, small)
    save_decoder(folder, decoder)
    shape = (config.groups, config.tokens, config.entries)
    Tables.from_counts(np.ones(shape), np.ones(config.groups), config.layer_ends).save(folder / "tables.safetensors")
