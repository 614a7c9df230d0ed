"""Parity: comparison of an artifact on its runtime with the full-precision student.

Two questions are kept apart, because they have different culprits. *Is the runtime right?* compares the artefact with
the graph it was lowered from. *Is the quantisation good?* compares that graph with the student in float32. What
a user gets is both at once, so the artefact is also compared with the student directly: codes, and the faces decoded
from them. An fp32 artefact was lowered from the student itself and has no second question.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from edge_stscq._progress import Progress, no_progress
from edge_stscq.codec.model import batches
from edge_stscq.config.thresholds import Check, Thresholds, at_least, at_most
from edge_stscq.data.crops import Faces
from edge_stscq.evaluation.metrics import cosine, pooled_psnr, psnr, squared_error
from edge_stscq.evaluation.parity.accuracy import Accuracy
from edge_stscq.evaluation.parity.agreement import Agreement, compare
from edge_stscq.stream import Codes

WORST = 10
"""Faces that the report names and shows."""

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Difference(_Frozen):
    """One face decoded from device codes against the same from full-precision codes."""

    face: str
    tokens: int = Field(description="that differ; all of them in another group")
    same_group: bool
    identity: float = Field(description="cosine of embeddings")
    psnr: float | None = Field(description="dB; null if the pictures are the same")


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
    worst: tuple[Difference, ...] = Field(
        description=f"of the faces whose codes differ, the {WORST} least alike in identity, worst first"
    )


class Parity(_Frozen):
    """The report of one bundle."""

    bundle: str = Field(description="its folder, as it was given")
    model: str
    model_id: str
    target: str
    precision: str
    executor: str = Field(description="what ran the artefact")
    faces: str = Field(description="where the faces came from")
    layer_names: tuple[str, ...] = Field(description="what people call the layers")
    layer_ends: tuple[int, ...] = Field(description="tokens in the prefix that ends with each layer")
    runtime: Agreement = Field(description="artefact against the graph it was lowered from")
    quantisation: Agreement | None = Field(
        description="quantised graph against full precision; null for an fp32 artefact"
    )
    device: Agreement = Field(description="artefact against full precision")
    pictures: Pictures
    accuracy: Accuracy | None = Field(description="verification; null where no pairs were given")
    checks: tuple[Check, ...]
    passed: bool


class BundleResult(NamedTuple):
    """One bundle after its judgement."""

    report: Parity
    codes: Codes
    """Codes of the faces by its artefact."""
    portraits: NDArray[np.uint8]
    """The report's worst faces, as in `Measured`."""


@dataclass(frozen=True)
class Reference:
    """The full-precision side.

    Attributes:
        faces: what was coded.
        codes: of the student.
        margin: of its search, squared distance [N,T].
        vectors: its token vectors [N,T,D].
        decode: codes -> faces uint8 [N,128,128,3] with all layers.
        embed: faces -> unit embeddings [N,D], made by the network named `embedded_by`.
        books: codebooks [M,T,K,D].
        layer_names: what people call the layers.
        layer_ends: tokens in the prefix that ends with each layer.
    """

    faces: Faces
    codes: Codes
    margin: NDArray[np.float32]
    vectors: NDArray[np.float32]
    decode: Callable[[Codes], NDArray[np.uint8]]
    embed: Embed
    embedded_by: str
    books: NDArray[np.float32]
    layer_names: tuple[str, ...]
    layer_ends: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """The comparisons of one artefact, before they are judged.

    `portraits` are the faces of `pictures.worst`, uint8 [W,3,128,128,3]: the original, decoded from full-precision
    codes, and decoded from device codes.
    """

    runtime: Agreement
    quantisation: Agreement | None
    device: Agreement
    pictures: Pictures
    portraits: NDArray[np.uint8]


def compare_codes(
    reference: Reference, device: Codes, graph: Codes | None, progress: Progress = no_progress
) -> Comparison:
    """Compare all codes of the reference's faces.

    Args:
        device: codes of the artefact on its runtime.
        graph: codes of the quantised graph in torch; None for an fp32 artefact.
        progress: told of every face whose pictures were compared.
    """

    def compared(first: Codes, second: Codes) -> Agreement:
        return compare(first, second, reference.layer_ends, reference.books, reference.margin, reference.vectors)

    full = reference.codes
    pictures, portraits = compare_pictures(reference, device, progress)
    return Comparison(
        runtime=compared(full if graph is None else graph, device),
        quantisation=None if graph is None else compared(full, graph),
        device=compared(full, device),
        pictures=pictures,
        portraits=portraits,
    )


def compare_pictures(
    reference: Reference, device: Codes, progress: Progress = no_progress
) -> tuple[Pictures, NDArray[np.uint8]]:
    """Decode both codes of each face; the worst are also given as the portraits of `Measured`.

    Equal codes are equal pictures: no error and a cosine of 1, without decoding.
    """
    wrong = (~reference.codes.equal_tokens(device)).sum(axis=1)  # with another group, every token
    error, identity = np.zeros(len(wrong)), np.ones(len(wrong))
    rows = np.flatnonzero(wrong)
    progress(len(wrong) - len(rows))
    for part in batches(len(rows)):
        at = rows[part]
        first, second = _decode_both(reference, device, at)
        error[at] = squared_error(first, second)
        identity[at] = cosine(reference.embed(first), reference.embed(second))
        progress(len(at))
    decibels = [value if np.isfinite(value) else None for value in psnr(error).tolist()]
    worst = rows[np.argsort(identity[rows], kind="stable")][:WORST]
    pictures = Pictures(
        faces=len(wrong),
        identical=float(np.mean(wrong == 0)),
        psnr=pooled_psnr(error),
        psnr_worst=decibels[int(error.argmax())],
        identity=float(identity.mean()),
        identity_p05=float(np.quantile(identity, 0.05)),
        identity_worst=float(identity.min()),
        embedded_by=reference.embedded_by,
        worst=tuple(
            Difference(
                face=reference.faces.names[row],
                tokens=int(wrong[row]),
                same_group=bool(reference.codes.group[row] == device.group[row]),
                identity=float(identity[row]),
                psnr=decibels[row],
            )
            for row in worst
        ),
    )
    originals = reference.faces.images[worst]
    decoded = _decode_both(reference, device, worst) if len(worst) else (originals, originals)
    return pictures, np.stack([originals, *decoded], axis=1)


def _decode_both(
    reference: Reference, device: Codes, rows: NDArray[np.integer]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The faces of some rows from full-precision codes and from device codes."""
    return reference.decode(reference.codes[rows]), reference.decode(device[rows])


def checks(comparison: Comparison, accuracy: Accuracy | None, thresholds: Thresholds) -> tuple[Check, ...]:
    """Every figure that has a threshold, held against it. Without flips all clear tokens agree."""
    device, pictures = comparison.device, comparison.pictures
    clear = 1.0 if device.clear_tokens is None else device.clear_tokens
    found = [
        at_least("token agreement of artefact and its graph", comparison.runtime.tokens, thresholds.runtime_agreement),
        *_stated("token agreement with full precision", device.tokens, thresholds.token_agreement),
        *_stated("token agreement above the flips' median margin", clear, thresholds.clear_agreement),
        *_stated("group agreement with full precision", device.groups, thresholds.group_agreement),
        at_least(f"identity cosine ({pictures.embedded_by})", pictures.identity, thresholds.identity),
    ]
    if thresholds.excess_distortion is not None:
        excess = max(value for value in device.excess_distortion if value is not None)
        found.append(at_most("excess distortion of the worst layer", excess, thresholds.excess_distortion))
    if accuracy is not None:
        beyond = thresholds.beyond_error
        counted = {row: row.lost - (row.lost_error or 0.0) * beyond for row in accuracy.rows}
        most = max(counted, key=lambda row: counted[row])
        figure = f"accuracy lost{' beyond its standard error' if beyond else ''} ({most.layer}, {most.compared})"
        found.append(at_most(figure, counted[most], thresholds.accuracy_lost))
    return tuple(found)


def _stated(figure: str, value: float, limit: float | None) -> list[Check]:
    return [] if limit is None else [at_least(figure, value, limit)]
