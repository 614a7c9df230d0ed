"""Accuracy against bytes: our layers beside what a user would pick instead, on the same pairs and by the same judge.

Each codec is a set of points (bytes of a face, verification accuracy of decoded faces). What it can do at a number of
bytes is the upper convex hull of its points over the logarithm of the bytes. A saving compares bytes at equal accuracy:
at each of our layers, and as Bjontegaard's mean over the accuracies that both hulls reach (VCEG-M33, with the monotone
cubic interpolation of later revisions).
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_stscq.data.crops import Faces
from edge_stscq.errors import EdgeError, require
from edge_stscq.evaluation.metrics import cosine
from edge_stscq.evaluation.rate.baselines import EXTRA, BaselineCodec
from edge_stscq.evaluation.verification.layers import VerificationReport
from edge_stscq.evaluation.verification.pairs import Pairs, verify
from edge_stscq.recognizers import Recognizer
from edge_stscq.stream.frame import FRAME_OVERHEAD

Counted = Literal["container", "payload"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(_Frozen):
    """One setting of one codec."""

    setting: str
    container_bytes: float = Field(gt=0, description="mean size of what is sent for a face, headers included")
    payload_bytes: float = Field(gt=0, description="the part of it that depends on the face")
    accuracy: float = Field(ge=0, le=1, description="verification of decoded against decoded faces by the judge")
    standard_error: float = Field(ge=0)
    identity: float | None = Field(description="IDS by the judge; null where it was not published")

    def size(self, counted: Counted) -> float:
        return self.container_bytes if counted == "container" else self.payload_bytes


class Curve(_Frozen):
    """All settings of one codec."""

    codec: str
    version: str
    points: tuple[Point, ...]


class Saving(_Frozen):
    """Bytes saved against one peer at equal accuracy; null where the accuracies do not meet."""

    peer: str
    counted: Counted
    bjontegaard: float | None = Field(description="share of the peer's bytes saved, mean over the common accuracies")
    at_layer: dict[str, float | None] = Field(description="share saved at the accuracy of each of our layers")


class RateReport(_Frozen):
    """Everything that `edge-stscq bench rate` measures."""

    protocol: str
    judge: str
    originals: float = Field(description="accuracy of the judge on the originals")
    ours: Curve
    peers: tuple[Curve, ...]
    missing: dict[str, str] = Field(description="peers that could not be measured, and why")
    published: tuple[Curve, ...] = Field(description="figures of papers, on other data by other judges")
    savings: tuple[Saving, ...]


PUBLISHED = (
    Curve(
        codec="STSCQ, published", version="arXiv 2510.22943, CASIA-WebFace, mean of five benchmarks",
        points=tuple(
            Point(setting=name, container_bytes=size, payload_bytes=size, accuracy=accuracy / 100, standard_error=0,
                  identity=ids)
            for name, size, accuracy, ids in (
                ("TiTok-L, 32 tokens, M=256 K=256", 33, 66.02, 0.189),
                ("TiTok-L, 32 tokens, M=1 K=4096", 48, 73.13, 0.258),
                ("TiTok-S, 128 tokens, M=256 K=256", 129, 87.60, 0.518),
                ("TiTok-S, 128 tokens, M=1 K=4096", 192, 91.66, 0.612),
                ("MaskGIT-VQGAN, 256 tokens, M=16 K=1024", 320.5, 92.23, 0.626),
                ("MaskGIT-VQGAN, 256 tokens, M=1 K=4096", 384, 93.51, 0.666),
            )
        ),
    ),
)  # fmt: skip


def _our_curve(report: VerificationReport, judge: str) -> Curve:
    """The layers of a judged codec, sent as frames of a stream."""
    return Curve(
        codec="edge-stscq", version=f"{report.model}, {report.subject}",
        points=tuple(
            Point(
                setting=layer.name, container_bytes=layer.payload_bytes + FRAME_OVERHEAD,
                payload_bytes=layer.payload_bytes, accuracy=layer.decoded[judge].accuracy,
                standard_error=layer.decoded[judge].standard_error, identity=layer.identity[judge],
            )
            for layer in report.layers
        ),
    )  # fmt: skip


class PointCache:
    """Measured points of peers in a JSON-lines file: what was measured once on these pictures is not measured again.

    Raises:
        EdgeError: the file holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Point] = {}
        try:
            lines = path.read_text().splitlines() if path.exists() else []
            for line in lines:
                row = json.loads(line)
                self._known[row["key"]] = Point.model_validate(row["point"])
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            raise EdgeError(f"{path} does not hold measured points; remove it to measure them again") from error

    def get_or_measure(self, key: str, measure: Callable[[], Point]) -> Point:
        """The point of this key, measured and appended if it is not known."""
        if key not in self._known:
            self._known[key] = measure()
            with self._path.open("a") as file:
                file.write(json.dumps({"key": key, "point": self._known[key].model_dump()}) + "\n")
        return self._known[key]


def baseline_curve(
    peer: BaselineCodec,
    faces: Faces,
    pairs: Pairs,
    judge: Recognizer,
    points: PointCache,
    progress: Callable[[int], None],
) -> Curve:
    """Code every face with every setting of a peer and verify the pairs.

    Raises:
        MissingExtraError: the peer's package is not installed.
        EdgeError: the codec failed.
    """
    require(peer.module, EXTRA)
    at = {name: index for index, name in enumerate(faces.names)}
    first, second = (np.array([at[name] for name in names]) for names in (pairs.first, pairs.second))
    pictures = hashlib.sha256(faces.images.tobytes() + "\n".join(pairs.first + pairs.second).encode()).hexdigest()[:16]
    originals: list[NDArray[np.float32]] = []

    def measure(side: int, quality: int) -> Point:
        coded = peer.run(faces.images, side, quality)
        seen = judge.embed(coded.images)
        if not originals:
            originals.append(judge.embed(faces.images))
        verification = verify(cosine(seen[first], seen[second]), pairs)
        return Point(
            setting=f"{side} px, quality {quality}",
            container_bytes=float(coded.container.mean()),
            payload_bytes=float(coded.payload.mean()),
            accuracy=verification.accuracy,
            standard_error=verification.standard_error,
            identity=float(cosine(originals[0], seen).mean()),
        )

    measured = []
    for side, quality in peer.settings:
        key = f"{peer.name}|{peer.version}|{side}|{quality}|{judge.name}|{len(pairs)}|{pictures}"
        measured.append(points.get_or_measure(key, partial(measure, side, quality)))
        progress(1)
    return Curve(codec=peer.name, version=peer.version, points=tuple(measured))


def hull(points: Sequence[Point], counted: Counted) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Upper convex hull: ascending natural logarithms of bytes and the accuracies, strictly ascending too."""
    rows = sorted({(np.log(point.size(counted)), point.accuracy) for point in points})
    kept: list[tuple[float, float]] = []
    for x, y in rows:
        if kept and y <= kept[-1][1]:
            continue
        if kept and kept[-1][0] == x:
            kept.pop()
        while len(kept) > 1 and _slope(kept[-1], (x, y)) >= _slope(kept[-2], kept[-1]):
            kept.pop()
        kept.append((x, y))
    sizes, accuracies = zip(*kept, strict=True)
    return np.array(sizes), np.array(accuracies)


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def _saving(ours: Curve, peer: Curve, counted: Counted) -> Saving:
    """Bytes that our codec saves against a baseline at equal accuracy."""
    sizes, accuracies = hull(peer.points, counted)

    def at(point: Point) -> float | None:
        if not accuracies[0] <= point.accuracy <= accuracies[-1]:
            return None
        return float(1 - point.size(counted) / np.exp(np.interp(point.accuracy, accuracies, sizes)))

    return Saving(
        peer=peer.codec, counted=counted, bjontegaard=_bjontegaard(ours, peer, counted),
        at_layer={point.setting: at(point) for point in ours.points},
    )  # fmt: skip


def _bjontegaard(ours: Curve, peer: Curve, counted: Counted) -> float | None:
    """1 - exp(mean difference of log bytes) over the accuracies that both reach; None if there are fewer than two."""
    from scipy.interpolate import PchipInterpolator

    lines = [hull(curve.points, counted) for curve in (ours, peer)]
    low = max(accuracies[0] for _, accuracies in lines)
    high = min(accuracies[-1] for _, accuracies in lines)
    if high <= low or any(len(sizes) < 2 for sizes, _ in lines):
        return None
    mine, theirs = (
        PchipInterpolator(accuracies, sizes).integrate(low, high) / (high - low) for sizes, accuracies in lines
    )
    return float(1 - np.exp(mine - theirs))


def compare(judged: VerificationReport, judge: str, peers: Sequence[Curve], missing: dict[str, str]) -> RateReport:
    """Put a judged codec beside measured peers and published figures."""
    ours = _our_curve(judged, judge)
    kinds: tuple[Counted, ...] = ("container", "payload")
    return RateReport(
        protocol=judged.protocol,
        judge=judge,
        originals=judged.originals[judge].accuracy,
        ours=ours,
        peers=tuple(peers),
        missing=missing,
        published=PUBLISHED,
        savings=tuple(_saving(ours, peer, counted) for peer in peers for counted in kinds),
    )
