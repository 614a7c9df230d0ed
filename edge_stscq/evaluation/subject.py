"""The codec under judgement: something that makes codes of crops, and something that makes faces of codes.

Judging needs nothing else, so a teacher in the middle of its training, the released student and an artefact on a
device's runtime are all a `Subject`. Pictures and codes travel as numpy arrays; torch stays inside the functions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from edge_stscq.codec import store
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.codec.integer_encoder import TokenEncoder
from edge_stscq.codec.matching import Matcher
from edge_stscq.config.codec import CodecConfig
from edge_stscq.errors import EdgeError
from edge_stscq.stream.face import CodedFace
from edge_stscq.stream.frame import FrameCodec
from edge_stscq.stream.tables import Tables

BATCH = 16
"""Pictures handled at once; large enough for a CPU, small beside the networks."""

Progress = Callable[[int], None]
"""Called with the number of faces finished since the last call."""


def no_progress(done: int) -> None:
    """Progress that nobody watches."""


class Codes(NamedTuple):
    """Codes of N faces with all their layers."""

    group: NDArray[np.int32]
    """[N]"""
    tokens: NDArray[np.int32]
    """[N, T]"""


class Encode(Protocol):
    """Something that codes crops uint8 [N,128,128,3] RGB and tells of every face done."""

    def __call__(self, images: NDArray[np.uint8], progress: Progress = no_progress) -> Codes: ...


class Analysed(NamedTuple):
    """What the full-precision student says of N faces."""

    codes: Codes
    margin: NDArray[np.float32]
    """Squared distance of the second-nearest entry minus that of the nearest, [N, T]."""
    embedding: NDArray[np.float32]
    """Its own identity embedding, [N, 128], not normalised."""


@dataclass(frozen=True)
class Subject:
    """One codec as functions.

    `encode` takes crops uint8 [N,128,128,3] RGB; `decode` makes them of codes and a number of layers; `identity` gives
    the unit identity vectors [N,128] read from the tokens, without decoding a picture. Without `tables` (during
    training) bytes are counted as fixed-length codes.
    """

    name: str
    config: CodecConfig
    encode: Callable[[NDArray[np.uint8]], Codes]
    decode: Callable[[Codes, int], NDArray[np.uint8]]
    identity: Callable[[Codes, int], NDArray[np.float32]]
    tables: Tables | None = None

    def payload_bytes(self, codes: Codes, layers: int) -> NDArray[np.float64]:
        """Bytes [N] of each payload of the first `layers` layers: entropy coded, or fixed-length without tables."""
        end = self.config.layer_ends[layers - 1]
        if self.tables is None:
            bits = np.ceil(np.log2(self.config.groups)) + end * np.ceil(np.log2(self.config.entries))
            return np.full(len(codes.group), np.ceil(bits / 8))
        frames = FrameCodec(self.tables, bytes(8))  # a payload does not depend on the model id
        faces = (CodedFace(int(g), t[:end], layers) for g, t in zip(*codes, strict=True))
        return np.array([frames.payload_size(face) for face in faces], np.float64)


def from_modules(
    encoder: EdgeEncoder | TokenEncoder, decoder: Decoder, name: str, tables: Tables | None = None
) -> Subject:
    """A subject of two networks in memory, for judging during training. The caller has put both in eval mode."""
    return Subject(name, encoder.config, _encode(encoder), _decode(decoder), _identity(encoder), tables)


def open_subject(folder: Path, encoder: Literal["student", "teacher"] = "student", device: str = "cpu") -> Subject:
    """The codec of a model folder. Only the files of the chosen encoder, the codebooks and the decoder must be there;
    without `tables.safetensors` bytes are counted as fixed-length codes.

    Raises:
        EdgeError: one of them is missing or damaged, or there is no CUDA device and it was asked for.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise EdgeError("torch sees no CUDA device; use --accelerator cpu")
    net = (store.load_teacher if encoder == "teacher" else store.load_student)(folder).to(device)
    tables = store.load_tables(folder) if (folder / "tables.safetensors").exists() else None
    return from_modules(net, store.load_decoder(folder).to(device), encoder, tables)


def batches(count: int, size: int = BATCH) -> Iterator[slice]:
    """Slices that cover `count` rows."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def analyse(encoder: EdgeEncoder | TokenEncoder, images: NDArray[np.uint8]) -> Analysed:
    """Codes, margins and embeddings of crops uint8 [N,128,128,3]."""
    result = encoder.analyse(_tensor(images, encoder))
    codes = Codes(result.group.cpu().numpy(), result.tokens.cpu().numpy())
    return Analysed(codes, result.margin.float().cpu().numpy(), result.embedding.float().cpu().numpy())


def _encode(encoder: EdgeEncoder | TokenEncoder) -> Callable[[NDArray[np.uint8]], Codes]:
    @torch.inference_mode()
    def encode(images: NDArray[np.uint8]) -> Codes:
        group, tokens = encoder(_tensor(images, encoder))
        return Codes(group.cpu().numpy(), tokens.cpu().numpy())

    return encode


def _decode(decoder: Decoder) -> Callable[[Codes, int], NDArray[np.uint8]]:
    def decode(codes: Codes, layers: int) -> NDArray[np.uint8]:
        group, tokens = _tensor(codes.group, decoder), _tensor(codes.tokens, decoder)
        parts = [decoder.decode(group[part], tokens[part], layers).cpu() for part in batches(len(group))]
        return torch.cat(parts).numpy()

    return decode


def _identity(encoder: EdgeEncoder | TokenEncoder) -> Callable[[Codes, int], NDArray[np.float32]]:
    head = encoder.head if isinstance(encoder, TokenEncoder) else encoder.head.identity
    matcher = Matcher(encoder.codebooks, head)

    def identity(codes: Codes, layers: int) -> NDArray[np.float32]:
        unit: torch.Tensor = matcher(_tensor(codes.group, encoder), _tensor(codes.tokens, encoder), layers)
        return unit.cpu().numpy()

    return identity


def _tensor(array: NDArray[np.generic], module: torch.nn.Module) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(next(module.parameters()).device)
