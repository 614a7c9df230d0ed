"""Parity: does the artefact on its runtime still say what the full-precision student says?

Two questions are kept apart, because they have different culprits. *Is the runtime right?* compares the artefact with
the graph it was lowered from. *Is the quantisation good?* compares that int8 graph with the student in float32. What
a user gets is both at once, so the artefact is also compared with the student directly: codes, and the faces decoded
from them. An fp32 artefact was lowered from the student itself and has no second question.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from edge_stscq.evaluation.agreement import Agreement, compare
from edge_stscq.evaluation.metrics import cosine, pooled_psnr, psnr, squared_error
from edge_stscq.evaluation.subject import Codes, Encode, Progress, batches, quiet
from edge_stscq.evaluation.thresholds import Thresholds

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pictures(_Frozen):
    """Faces decoded from device codes against those from full-precision codes, all layers."""

    faces: int
    identical: float = Field(description="share of faces whose codes, and so whose pictures, are the same")
    psnr: float | None = Field(description="of the mean squared error over all faces, dB; null if all are identical")
    psnr_worst: float | None = Field(description="of the worst face, dB; null if all are identical")
    identity: float = Field(description="mean cosine of embeddings")
    identity_p05: float = Field(description="cosine that 95 % of the faces reach")
    identity_worst: float
    embedded_by: str = Field(description="network that made the embeddings")


class Parity(_Frozen):
    """The report of one bundle."""

    bundle: str
    model_id: str
    target: str
    precision: str
    executor: str = Field(description="what ran the artefact")
    faces: str = Field(description="where the faces came from")
    runtime: Agreement = Field(description="artefact against the graph it was lowered from")
    quantisation: Agreement | None = Field(description="int8 graph against full precision; null for an fp32 artefact")
    device: Agreement = Field(description="artefact against full precision")
    pictures: Pictures
    thresholds: Thresholds
    failures: tuple[str, ...]
    passed: bool


@dataclass(frozen=True)
class Reference:
    """The full-precision side.

    Attributes:
        analyse: crops -> (codes, margins [N,T]).
        decode: codes -> faces uint8 [N,128,128,3] with all layers.
        books: codebooks [M,T,K,D].
        layer_ends: tokens in the prefix that ends with each layer.
    """

    analyse: Callable[[NDArray[np.uint8], Progress], tuple[Codes, NDArray[np.float32]]]
    decode: Callable[[Codes], NDArray[np.uint8]]
    books: NDArray[np.float32]
    layer_ends: tuple[int, ...]


@dataclass(frozen=True)
class Measured:
    """The comparisons of one artefact, before they are judged."""

    runtime: Agreement
    quantisation: Agreement | None
    device: Agreement
    pictures: Pictures


def measure(
    images: NDArray[np.uint8],
    artefact: Encode,
    quantised: Encode | None,
    reference: Reference,
    embed: Embed,
    embedded_by: str,
    progress: Progress = quiet,
) -> Measured:
    """Code `images` uint8 [N,128,128,3] in every way and compare.

    Args:
        artefact: the artefact on its runtime.
        quantised: the int8 graph in torch; None for an fp32 artefact.
        embed: faces -> unit embeddings [N,D], made by the network named `embedded_by`.
        progress: told of every face finished by a step; `steps` says how many there will be.
    """
    full, margin = reference.analyse(images, progress)
    device = artefact(images, progress)
    graph = full if quantised is None else quantised(images, progress)

    def compared(first: Codes, second: Codes) -> Agreement:
        return compare(first, second, reference.layer_ends, reference.books, margin)

    return Measured(
        runtime=compared(graph, device),
        quantisation=None if quantised is None else compared(full, graph),
        device=compared(full, device),
        pictures=compare_pictures(full, device, reference.decode, embed, embedded_by, progress),
    )


def steps(faces: int, quantised: bool) -> int:
    """What `measure` reports to its progress function in all."""
    return faces * (4 if quantised else 3)


def compare_pictures(
    full: Codes,
    device: Codes,
    decode: Callable[[Codes], NDArray[np.uint8]],
    embed: Embed,
    embedded_by: str,
    progress: Progress = quiet,
) -> Pictures:
    """Decode both codes of each face. Equal codes are equal pictures: no error and a cosine of 1, without decoding."""
    differ = (full.group != device.group) | (full.tokens != device.tokens).any(axis=1)
    error, identity = np.zeros(len(differ)), np.ones(len(differ))
    rows = np.flatnonzero(differ)
    progress(len(differ) - len(rows))
    for part in batches(len(rows)):
        at = rows[part]
        first, second = (decode(Codes(codes.group[at], codes.tokens[at])) for codes in (full, device))
        error[at] = squared_error(first, second)
        identity[at] = cosine(embed(first), embed(second))
        progress(len(at))
    worst = float(psnr(error).min())
    return Pictures(
        faces=len(differ),
        identical=float(1 - differ.mean()),
        psnr=pooled_psnr(error),
        psnr_worst=worst if np.isfinite(worst) else None,
        identity=float(identity.mean()),
        identity_p05=float(np.quantile(identity, 0.05)),
        identity_worst=float(identity.min()),
        embedded_by=embedded_by,
    )


def failures(measured: Measured, thresholds: Thresholds) -> tuple[str, ...]:
    """One line for every figure below its threshold."""
    figures = (
        ("token agreement of artefact and its graph", measured.runtime.tokens, thresholds.runtime_agreement),
        ("token agreement with full precision", measured.device.tokens, thresholds.token_agreement),
        ("group agreement with full precision", measured.device.groups, thresholds.group_agreement),
        (f"identity cosine ({measured.pictures.embedded_by})", measured.pictures.identity, thresholds.identity),
    )
    low = [(name, value, least) for name, value, least in figures if value < least]
    return tuple(f"{name} is {value:.4f}, at least {least:g} is asked" for name, value, least in low)
