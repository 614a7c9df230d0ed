"""The codec as one object: crops to codes and bytes, codes and bytes to faces, and comparison without decoding.

Pictures and codes travel as numpy arrays; torch stays inside. A part is loaded when it is first used: encoding needs
the encoder, decoding the decoder, comparing only codebooks and a projection.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from edge_stscq._progress import Progress, no_progress
from edge_stscq.bundle import Bundle, model_folder
from edge_stscq.bundle.match_rule import MatchRule
from edge_stscq.codec import store
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.codec.execution_profile import PROFILES, ExecutionProfile
from edge_stscq.codec.face_decoder import FaceDecoder
from edge_stscq.codec.integer.encoder import TokenEncoder
from edge_stscq.codec.matching import Matcher
from edge_stscq.config.codec import CROP, CodecConfig
from edge_stscq.errors import EdgeError
from edge_stscq.hub import resolve
from edge_stscq.stream import CodedFace, Codes, FrameCodec, Tables, model_id
from edge_stscq.stream.learned import Learned

BATCH = 16
"""Pictures encoded at once; large enough for a CPU, small beside the networks."""

TorchEncoder = EdgeEncoder | TokenEncoder


class ArtifactEncoder(Protocol):
    """An artifact in its runtime, such as a `DeviceEncoder`."""

    bundle: Bundle
    runtime: str

    def run(self, image: NDArray[np.uint8]) -> tuple[int, NDArray[np.int32]]:
        """Group and all tokens int32 `[T]` of one crop, uint8 `[128, 128, 3]` RGB."""


class Analysis(NamedTuple):
    """Codes, margins, embeddings and token vectors of N faces by a full-precision encoder."""

    codes: Codes
    margin: NDArray[np.float32]
    """Squared distance of the second-nearest entry minus that of the nearest, [N, T]."""
    embedding: NDArray[np.float32]
    """Its own identity embedding, [N, 128], not normalized."""
    vectors: NDArray[np.float32]
    """Token vectors before they are quantized, [N, T, D]."""


class Codec:
    """A model: `load` opens its folder, `from_modules` takes networks in memory.

    Crops are uint8 `[N, 128, 128, 3]` in RGB, as `align` makes them, or a single one without the first dimension. A
    number of layers is 1 to that of the model; None is all there are.

    Attributes:
        name: of what encodes, for reports: "student", "teacher", or an artifact and its runtime.
        config: shape of the codec.
        tables: frequency tables; None while a model is in training, then bytes are counted as fixed-length codes.
        folder: of the model; None in memory.

    Example:
        >>> codec = Codec.load("models/face64")
        >>> codes = codec.encode(crops)
        >>> faces = codec.decode(codes, layers=2)
        >>> same = codec.embed(codes[:1]) @ codec.embed(codes[1:]).T
        >>> data = codec.compress(crops, layers=3)
    """

    def __init__(
        self,
        config: CodecConfig,
        name: str,
        *,
        encoder: Callable[[], TorchEncoder | ArtifactEncoder],
        decoder: Callable[[], FaceDecoder],
        matcher: Callable[[], Matcher],
        books: Callable[[], NDArray[np.float32]],
        tables: Tables | None = None,
        folder: Path | None = None,
    ) -> None:
        self.config, self.name, self.tables, self.folder = config, name, tables, folder
        self._encoder, self._decoder = cache(encoder), cache(decoder)
        self._matcher, self._books = cache(matcher), cache(books)

    @classmethod
    def load(
        cls,
        model: Path | str,
        encoder: Literal["student", "teacher"] = "student",
        device: Literal["cpu", "cuda"] = "cpu",
        profile: ExecutionProfile | None = None,
    ) -> "Codec":
        """Open a model. Only its configuration and tables are read at once, and without tables it opens, too.

        Args:
            model: folder, or name of a released model such as "face64".
            encoder: the device's student in float32, or the full-precision teacher.
            device: where torch computes.
            profile: how faces are decoded there; in float32 and without a compiler if None.

        Raises:
            EdgeError: there is no such model, or no CUDA device. A missing or damaged part is told when it is used.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise EdgeError("torch sees no CUDA device; use --accelerator cpu")
        folder = resolve(model)
        load = store.load_teacher if encoder == "teacher" else store.load_student
        net = cache(lambda: load(folder).to(device))
        return cls(
            model_folder.load_config(folder), encoder, encoder=net,
            decoder=partial(FaceDecoder, folder, device, profile or PROFILES["cpu"]),
            matcher=lambda: _matcher(net()) if encoder == "teacher" else Matcher.load(folder).to(device),
            books=partial(model_folder.full_books, folder), folder=folder,
            tables=model_folder.load_tables(folder) if (folder / "tables.safetensors").exists() else None,
        )  # fmt: skip

    @classmethod
    def from_modules(
        cls, encoder: TorchEncoder, decoder: Decoder, name: str = "student", tables: Tables | None = None
    ) -> "Codec":
        """The codec of two networks in memory, of one device and in eval mode; for judging during training."""
        return cls(
            encoder.config, name, encoder=lambda: encoder,
            decoder=lambda: FaceDecoder(decoder, _device(decoder).type, PROFILES["cpu"]),
            matcher=lambda: _matcher(encoder), books=lambda: _full_books(encoder), tables=tables,
        )  # fmt: skip

    def with_encoder(self, encoder: TorchEncoder | ArtifactEncoder | Bundle, name: str | None = None) -> "Codec":
        """The same codec with another encoder: a network in memory, or a bundle's artifact in its runtime.

        Args:
            name: of the encoder, for reports; for an artifact otherwise its target, precision and runtime.

        Raises:
            EdgeError: the bundle is of another model, or its runtime is missing.

        Example:
            >>> on_device = codec.with_encoder(Bundle.open("bundles/onnx-int8"))
            >>> agreement = on_device.encode(crops).equal_tokens(codec.encode(crops)).mean()
        """
        if isinstance(encoder, Bundle):
            encoder = encoder.load_encoder()
        if not isinstance(encoder, TorchEncoder):
            self.check_bundle(encoder.bundle)
            manifest = encoder.bundle.manifest
            name = name or f"{manifest.target} {manifest.precision} on {encoder.runtime}"
        chosen = encoder
        return Codec(
            self.config, name or self.name, encoder=lambda: chosen, decoder=self._decoder, matcher=self._matcher,
            books=self._books, tables=self.tables, folder=self.folder,
        )  # fmt: skip

    @property
    def encoder(self) -> TorchEncoder | ArtifactEncoder:
        """The encoder itself: a network in torch, or an artifact in its runtime."""
        return self._encoder()

    @property
    def books(self) -> NDArray[np.float32]:
        """Codebooks `[M, T, K, D]`."""
        return self._books()

    @cached_property
    def frames(self) -> FrameCodec:
        """Faces to frames and back.

        Raises:
            EdgeError: the model has no frequency tables yet.
        """
        if self.tables is None:
            raise EdgeError("the model has no frequency tables yet, and so no frames; finish its training")
        return FrameCodec(self.tables, model_id(self.books, self.tables), learned=self.learned)

    @cached_property
    def learned(self) -> Learned | None:
        """The learned coder; None in memory and of a model that has none.

        Raises:
            EdgeError: it is damaged, or of a model of another shape.
        """
        return None if self.folder is None else model_folder.load_learned(self.folder)

    @cached_property
    def rule(self) -> MatchRule | None:
        """Scores and thresholds by which two faces are one person's; None in memory and of a model not measured.

        Raises:
            EdgeError: they are damaged, or of another model.

        Example:
            >>> a, b = codec.embed(codes, layers=2)
            >>> codec.rule.verdict(a, b, layers=2)
            'perhaps'
        """
        found = None if self.folder is None else MatchRule.load(self.folder)
        if found is not None:
            found.thresholds.check(self.frames.model_id, self.config.layer_names, str(self.folder))
        return found

    def check_bundle(self, bundle: Bundle) -> None:
        """Refuse a bundle that was not exported from this model.

        Raises:
            EdgeError: codebooks or frequency tables differ.
        """
        found = self.frames.model_id.hex()
        if found != bundle.manifest.model_id:
            raise EdgeError(
                f"{bundle.folder} is of model {bundle.manifest.model_id}, {self.folder or 'the codec'} holds {found}; "
                "give the model it was exported from with --model"
            )

    def encode(self, crops: NDArray[np.uint8], layers: int | None = None, progress: Progress = no_progress) -> Codes:
        """Codes of crops; the first `layers` layers of them.

        Args:
            progress: told of every face done.

        Raises:
            EdgeError: these are no crops, the model has fewer layers, or its encoder is missing.
        """
        images, encoder = as_crops(crops), self.encoder
        wanted = len(self.config.layers) if layers is None else self.config.check_layers(layers)
        groups, tokens = [], []
        if isinstance(encoder, TorchEncoder):
            for part in batches(len(images)):
                with torch.inference_mode():
                    group, row = encoder(_tensor(images[part], encoder))
                groups.append(group.cpu().numpy())
                tokens.append(row.cpu().numpy())
                progress(len(groups[-1]))
        else:
            for image in images:  # one at a time, as on a device
                number, found = encoder.run(image)
                groups.append(np.array([number], np.int32))
                tokens.append(found[None])
                progress(1)
        if not groups:
            groups, tokens = [np.empty(0, np.int32)], [np.empty((0, self.config.tokens), np.int32)]
        codes = Codes(np.concatenate(groups), np.concatenate(tokens), len(self.config.layers))
        return codes.truncate(wanted, self.config.layer_ends)

    def decode(self, codes: Codes | Iterable[CodedFace], layers: int | None = None) -> NDArray[np.uint8]:
        """Faces uint8 `[N, 128, 128, 3]` in RGB, each from at most the first `layers` layers of its code.

        Raises:
            EdgeError: the model has fewer layers, a code is not of it, or its decoder is missing.
        """
        ends = self.config.layer_ends
        most = len(ends) if layers is None else self.config.check_layers(layers)
        faces = [face.truncate(min(most, face.layers), ends) for face in codes]
        for face in faces:
            self._check(face)
        return self._decoder().decode(faces)

    def embed(self, codes: Codes, layers: int | None = None) -> NDArray[np.float32]:
        """Unit identity vectors float32 `[N, 128]` read from the tokens: two faces compare by their product, a cosine.

        Nothing is decoded. Further layers sharpen the vectors as far as they hold identity tokens.

        Raises:
            EdgeError: the codes have fewer layers.
        """
        wanted = codes.layers if layers is None else self.config.check_layers(layers)
        first = codes.truncate(wanted, self.config.layer_ends)
        for face in first:
            self._check(face)
        matcher = self._matcher()
        device = matcher.is_identity.device
        group, tokens = (torch.from_numpy(np.ascontiguousarray(x)).to(device) for x in (first.group, first.tokens))
        unit: NDArray[np.float32] = matcher(group, tokens, wanted).cpu().numpy()
        return unit

    def compress(self, crops: NDArray[np.uint8], layers: int | None = None) -> bytes:
        """A stream of crops: header and a frame a face; errors as `encode` and `frames`.

        Example:
            >>> Path("faces.stsq").write_bytes(codec.compress(crops))
        """
        return self.frames.write(self.encode(crops, layers))

    def decompress(self, data: bytes, layers: int | None = None) -> NDArray[np.uint8]:
        """Faces uint8 `[N, 128, 128, 3]` of a stream, from at most the first `layers` layers of each.

        Raises:
            FrameError: the stream is damaged or of another model.
            EdgeError: as `decode`.

        Example:
            >>> face = codec.decompress(Path("faces.stsq").read_bytes())[0]
        """
        return self.decode(self.frames.read(data), layers)

    def analyze(self, crops: NDArray[np.uint8], progress: Progress = no_progress) -> Analysis:
        """Codes, margins, embeddings and token vectors of one crop or more.

        Raises:
            EdgeError: these are no crops, or the encoder is an artifact, which tells tokens only.
        """
        images, encoder = as_crops(crops), self.encoder
        if not isinstance(encoder, TorchEncoder):
            raise EdgeError(f"{self.name} tells tokens only; analyze with the model's own encoder")
        parts = []
        for part in batches(len(images)):
            found = encoder.analyse(_tensor(images[part], encoder))
            parts.append((found.group, found.tokens, found.margin.float(), found.embedding.float(), found.z.float()))
            progress(part.stop - part.start)
        group, tokens, *floats = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
        return Analysis(Codes(group, tokens, len(self.config.layers)), *floats)

    def payload_bytes(self, codes: Codes, layers: int | None = None) -> NDArray[np.float64]:
        """Bytes `[N]` of each payload of the first `layers` layers: entropy coded, or fixed-length without tables."""
        wanted = codes.layers if layers is None else self.config.check_layers(layers)
        first = codes.truncate(wanted, self.config.layer_ends)
        if self.tables is None:
            bits = np.ceil(np.log2(self.config.groups)) + first.tokens.shape[1] * np.ceil(np.log2(self.config.entries))
            return np.full(len(first), np.ceil(bits / 8))
        frames = FrameCodec(self.tables, bytes(8))  # a payload does not depend on the model id
        return np.array([frames.frame(face).payload_bytes for face in first], np.float64)

    def _check(self, face: CodedFace) -> None:
        config = self.config
        wanted = config.layer_ends[face.layers - 1]
        if len(face.tokens) != wanted:
            raise EdgeError(f"{face.layers} layers of this model are {wanted} tokens, the face has {len(face.tokens)}")
        if not 0 <= face.group < config.groups or face.tokens.max() >= config.entries:
            raise EdgeError(
                f"group {face.group} or token {face.tokens.max()} is not one of this model's {config.groups} groups of "
                f"{config.entries} entries; decode with the model that encoded the face"
            )


def as_crops(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crops uint8 `[N, 128, 128, 3]` from as many, or from one without the first dimension.

    Raises:
        EdgeError: `images` is neither.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[-3:] != (CROP, CROP, 3):
        what = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise EdgeError(f"crops are uint8 (N, {CROP}, {CROP}, 3) in RGB, not {what}; make them with `align`")
    if images.ndim > 4:
        raise EdgeError(f"crops are uint8 (N, {CROP}, {CROP}, 3), not of shape {images.shape}")
    return images.reshape(-1, CROP, CROP, 3)


def batches(count: int, size: int = BATCH) -> Iterator[slice]:
    """Slices that cover `count` rows."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _matcher(encoder: TorchEncoder) -> Matcher:
    head = encoder.head if isinstance(encoder, TokenEncoder) else encoder.head.identity
    return Matcher(encoder.codebooks, head)


def _full_books(encoder: TorchEncoder) -> NDArray[np.float32]:
    books = encoder.codebooks.books.expand(-1, encoder.config.tokens, -1, -1)
    return np.ascontiguousarray(books.cpu().numpy())


def _device(module: torch.nn.Module) -> torch.device:
    return next(module.parameters()).device


def _tensor(array: NDArray[np.generic], module: torch.nn.Module) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(_device(module))
