"""A bundle that was checked from end to end before any of it is used.

Opening one holds every file against the sha256 in the manifest, refuses files that are not listed, and recomputes the
model id from the codebooks and tables, so that what the device sends is what the server expects. The few bytes that are
then read are hashed once more as they are read: a file that changes in between is not used either.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from edge_stscq.bundle import signature
from edge_stscq.bundle.golden import Golden
from edge_stscq.bundle.manifest import (
    CODEBOOKS,
    GOLDEN,
    PROJECTION,
    REEXPORT_HINT,
    TABLES,
    Manifest,
    differences,
    read_manifest,
    sha256_files,
)
from edge_stscq.bundle.match_rule import COHORT, MatchRule
from edge_stscq.bundle.projection import IdentityProjection
from edge_stscq.config.codec import CodecConfig
from edge_stscq.config.match_thresholds import FILE as THRESHOLDS
from edge_stscq.config.match_thresholds import MatchThresholds
from edge_stscq.errors import BundleError, EdgeError
from edge_stscq.stream import FrameCodec, Tables, model_id
from edge_stscq.stream.frame import coder_id_of
from edge_stscq.stream.learned import Learned, Weights
from edge_stscq.stream.learned.weights import FILE as LEARNED

if TYPE_CHECKING:
    from edge_stscq.device.encoder import DeviceEncoder


@dataclass(frozen=True, eq=False)
class Bundle:
    """An open bundle: a model as a device gets it, verified from end to end.

    Attributes:
        folder: where its files are.
        manifest: what it says about itself.
        books: float32 `[M, T, K, D]`.
        frames: tokens to frames and back, for this model.

    Example:
        >>> bundle = Bundle.open("bundles/onnx-int8")
        >>> encoder = bundle.load_encoder()
        >>> frame = encoder.encode_frame(crop)
    """

    folder: Path
    manifest: Manifest
    books: NDArray[np.float32]
    frames: FrameCodec

    @classmethod
    def open(cls, bundle: Path | str, trusted_key: Path | str | None = None) -> "Bundle":
        """Open a bundle by its folder, or by the name of a released one such as "face64:onnx-int8".

        Args:
            trusted_key: PEM file of the public key that must have signed it; None takes unsigned ones too.

        Raises:
            EdgeError: as `hub.resolve`, for a name.
            BundleError: as `open_bundle`.
        """
        from edge_stscq.hub.names import resolve

        return open_bundle(resolve(bundle), None if trusted_key is None else Path(trusted_key))

    def load_encoder(self, threads: int = 1, *, verify: bool = True) -> "DeviceEncoder":
        """The artifact in its runtime, ready to encode; arguments and errors as `device.load_encoder`."""
        from edge_stscq.device.encoder import load_encoder

        return load_encoder(self, threads, verify=verify)

    @property
    def config(self) -> CodecConfig:
        return self.manifest.config

    @property
    def signed(self) -> bool:
        """True if a signature lies in it; `open_bundle` checks whose, if a trusted key is given."""
        return signature.is_signed(self.folder)

    @property
    def artefact(self) -> Path:
        """File or folder that the runtime loads."""
        return self.folder / self.manifest.artefact

    def read(self, name: str) -> bytes:
        """Contents of one listed file, hashed as they are read.

        Raises:
            BundleError: the file is not what the manifest says.
        """
        return _read(self.folder, self.manifest, name)

    @cached_property
    def golden(self) -> Golden:
        """The golden vectors.

        Raises:
            BundleError: they do not fit the model.
        """
        tensors = _tensors(self.folder, self.manifest, GOLDEN)
        try:
            return Golden.from_tensors(tensors, self.config, payloads=self.manifest.matches)
        except ValueError as error:
            raise BundleError(f"{self.folder / GOLDEN}: {error}; {REEXPORT_HINT}") from None

    @cached_property
    def projection(self) -> IdentityProjection:
        """The identity projection, for matching.

        Raises:
            BundleError: the bundle is of a format before 3 and has none, or it does not fit the model.
        """
        if not self.manifest.matches:
            raise BundleError(f"{self.folder} is of a format before 3 and cannot match; export it again for matching")
        tensors = _tensors(self.folder, self.manifest, PROJECTION)
        try:
            return IdentityProjection.from_tensors(tensors, self.config)
        except ValueError as error:
            raise BundleError(f"{self.folder / PROJECTION}: {error}; {REEXPORT_HINT}") from None

    @cached_property
    def rule(self) -> MatchRule | None:
        """Scores and thresholds by which two faces are one person's; None in a bundle without any.

        Raises:
            BundleError: they are damaged, or of another model.
        """
        if THRESHOLDS not in self.manifest.files:
            return None
        where = str(self.folder / THRESHOLDS)
        try:
            found = MatchThresholds.parse(self.read(THRESHOLDS), where)
            found.check(self.frames.model_id, self.config.layer_names, where)
            cohort = self.read(COHORT) if COHORT in self.manifest.files else None
            return MatchRule.of(found, cohort, str(self.folder / COHORT))
        except BundleError:
            raise
        except EdgeError as error:
            raise BundleError(str(error)) from None


def open_bundle(folder: Path | str, trusted_key: Path | None = None) -> Bundle:
    """Read a bundle and verify all of it; the artefact is not loaded yet.

    Args:
        trusted_key: PEM file of the public key that must have signed it; None takes unsigned ones too.

    Raises:
        BundleError: a file is missing, altered or not listed, the manifest does not follow the schema, or codebooks and
            tables do not have the shapes or the model id that it states, or it is not signed by the trusted key.
    """
    folder = Path(folder)
    data = read_manifest(folder)
    if trusted_key is not None:
        signature.check(folder, data, trusted_key)
    manifest = Manifest.parse(folder, data)
    if problems := differences(manifest.files, sha256_files(folder)):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise BundleError(f"{folder}: {problems[0]}{more}; {REEXPORT_HINT}")
    books, tables = _load_books(folder, manifest), _load_tables(folder, manifest)
    found = model_id(books, tables)
    if found.hex() != manifest.model_id:
        raise BundleError(
            f"{folder}: model id is {found.hex()}, the manifest says {manifest.model_id}; {REEXPORT_HINT}"
        )
    learned = _load_learned(folder, manifest, tables) if manifest.coder == "learned" else None
    return Bundle(folder, manifest, books, FrameCodec(tables, found, coder_id_of(manifest.coder, learned), learned))


def _read(folder: Path, manifest: Manifest, name: str) -> bytes:
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {folder / name}: {error.strerror}; {REEXPORT_HINT}") from error
    if hashlib.sha256(data).hexdigest() != manifest.files.get(name):
        raise BundleError(f"{folder}: {name} was altered (sha256 differs); {REEXPORT_HINT}")
    return data


def _tensors(folder: Path, manifest: Manifest, name: str) -> dict[str, NDArray[np.generic]]:
    try:
        tensors: dict[str, NDArray[np.generic]] = safetensors.numpy.load(_read(folder, manifest, name))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{folder / name} is not a safetensors file ({error}); {REEXPORT_HINT}") from error
    return tensors


def _load_books(folder: Path, manifest: Manifest) -> NDArray[np.float32]:
    config = manifest.config
    shape = (config.groups, config.tokens, config.entries, config.dim)
    books = _tensors(folder, manifest, CODEBOOKS).get("books", np.empty(0))
    if books.dtype != np.float32 or books.shape != shape or not np.isfinite(books.astype(np.float32)).all():
        raise BundleError(f"{folder / CODEBOOKS} holds no finite float32 books of shape {shape}; {REEXPORT_HINT}")
    return books.astype(np.float32)


def _load_tables(folder: Path, manifest: Manifest) -> Tables:
    config = manifest.config
    try:
        tables = Tables.from_bytes(_read(folder, manifest, TABLES))
    except BundleError:
        raise
    except EdgeError as error:
        raise BundleError(f"{folder / TABLES}: {error}; {REEXPORT_HINT}") from error
    if tables.shape != (config.groups, config.tokens, config.entries) or tables.layer_ends != config.layer_ends:
        raise BundleError(f"{folder / TABLES} is of another configuration than the manifest's; {REEXPORT_HINT}")
    return tables


def _load_learned(folder: Path, manifest: Manifest, tables: Tables) -> Learned:
    try:
        return Learned(Weights.from_bytes(_read(folder, manifest, LEARNED)), tables)
    except BundleError:
        raise
    except EdgeError as error:
        raise BundleError(f"{folder / LEARNED}: {error}; {REEXPORT_HINT}") from error
