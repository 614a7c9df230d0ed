"""A model folder without its networks, read with numpy alone: its codec, its frames, how its faces match.

Who answers requests or reads streams needs no more, and starts without torch.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from edge_stscq.bundle.matcher import Matcher
from edge_stscq.bundle.projection import IdentityProjection
from edge_stscq.config.codec import CodecConfig
from edge_stscq.errors import EdgeError
from edge_stscq.stream import FrameCodec, Tables, model_id
from edge_stscq.stream.learned import Learned, Weights
from edge_stscq.stream.learned.weights import FILE as LEARNED


def load_config(folder: Path) -> CodecConfig:
    """Shape of the model's codec.

    Raises:
        EdgeError: its file is missing or no configuration.
    """
    return CodecConfig.load(Path(folder) / "config.json")


def load_tables(folder: Path) -> Tables:
    """The model's frequency tables.

    Raises:
        EdgeError: their file is missing or damaged.
    """
    return Tables.load(Path(folder) / "tables.safetensors")


def load_learned(folder: Path) -> Learned | None:
    """The model's learned coder; None of a model without one.

    Raises:
        EdgeError: a file is damaged, or the weights are of a model of another shape.
    """
    path = Path(folder) / LEARNED
    return Learned(Weights.load(path), load_tables(folder)) if path.exists() else None


def full_books(folder: Path) -> NDArray[np.float32]:
    """Codebooks float32 `[M, T, K, D]` with a codebook for every position, as bundles and model ids see them.

    Raises:
        EdgeError: a file is missing or damaged.
    """
    path = Path(folder) / "codebooks.safetensors"
    books = _arrays(path, ("books",)).get("books")
    if books is None or books.ndim != 4:
        raise EdgeError(f"{path} holds no codebooks; copy the model folder again")
    groups, _, entries, dim = books.shape
    return np.ascontiguousarray(np.broadcast_to(books, (groups, load_config(folder).tokens, entries, dim)))


def load_frame_codec(folder: Path) -> FrameCodec:
    """Codec of the model's frames, which also tells its id.

    Raises:
        EdgeError: a file is missing or damaged.
    """
    tables = load_tables(folder)
    return FrameCodec(tables, model_id(full_books(folder), tables), learned=load_learned(folder))


def load_matcher(folder: Path) -> Matcher:
    """The matcher of the model's coded faces.

    Raises:
        EdgeError: a file is missing or damaged, or holds no projection.
    """
    return Matcher(load_config(folder), full_books(folder), load_projection(folder))


def load_projection(folder: Path) -> IdentityProjection:
    """Meaning of the identity tokens of the model, as its student holds it.

    Raises:
        EdgeError: a file is missing or damaged, or holds no projection.
    """
    config, path = load_config(folder), Path(folder) / "student.safetensors"
    prefix = "head." if config.student_layers else "head.identity."
    names = {prefix + name: name for name in ("projection", "mean", "centre")}
    found = {names[name]: array for name, array in _arrays(path, names).items()}
    try:
        tensors = {"center" if name == "centre" else name: array for name, array in found.items()}
        return IdentityProjection.from_tensors(tensors, config)
    except ValueError as error:
        raise EdgeError(f"{path} does not fit config.json ({error}); copy the model folder again") from None


def _arrays(path: Path, names: Iterable[str]) -> dict[str, NDArray[np.float32]]:
    """Those of these tensors that a file has, as float32."""
    try:
        with safe_open(path, "np") as file:
            return {name: file.get_tensor(name).astype(np.float32) for name in set(names).intersection(file.keys())}
    except FileNotFoundError:
        raise EdgeError(f"{path} does not exist; the model folder is incomplete, train or copy it again") from None
    except (SafetensorError, OSError) as error:
        raise EdgeError(f"{path} is damaged ({error}); copy the model folder again") from None
