"""Thresholds of protected templates, from the false matches of all pairs of strangers in a set of crops.

Every face is enrolled under a key of its own and matched with every other face under that key: who holds the keys
matches everybody so, and a stranger is compared under the key of the template that he is held against.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_stscq._progress import Progress, no_progress
from edge_stscq.codec.model import Codec
from edge_stscq.config.match_thresholds import Limits, Measurement
from edge_stscq.config.template_thresholds import SchemeThresholds, TemplateThresholds
from edge_stscq.data.crops import Faces
from edge_stscq.evaluation.false_matches import People, check_people, choose_limits
from edge_stscq.privacy import RecordKey, Scheme
from edge_stscq.stream import Codes

_PROBES = 64
"""Faces that are matched at a time."""


def measure_templates(
    codec: Codec, faces: Faces, people: People, sources: Sequence[str], codes: Codes, schemes: Sequence[Scheme[Any]],
    progress: Progress = no_progress,
) -> TemplateThresholds:  # fmt: skip
    """Measure the thresholds of each scheme on codes that were made before.

    Args:
        codes: of `faces`, by the codec's encoder.
        progress: told of every batch of faces that was matched with all.

    Raises:
        EdgeError: they make fewer than 100,000 stranger pairs, a crop is missing, or the model has no identity tokens
            in its first layer.
    """
    _, identity, pairs = check_people(codec, faces, people)
    unit = codec.embed(codes)
    found = tuple(
        SchemeThresholds(scheme=each.name, limits=_limits(each, unit, identity, 2 * pairs, progress))
        for each in schemes
    )
    return TemplateThresholds(
        model_id=codec.frames.model_id.hex(), schemes=found,
        measured=Measurement(
            encoder=codec.name, crops=tuple(sources), crops_sha256=hashlib.sha256(faces.images.tobytes()).hexdigest(),
            faces=len(faces), people=len(set(people.identity)), stranger_pairs=2 * pairs,
        ),
    )  # fmt: skip


def _limits(
    scheme: Scheme[Any], unit: NDArray[np.float32], identity: NDArray[np.intp], pairs: int, progress: Progress
) -> Limits:
    """Limits of one scheme; a pair of faces counts twice, once under the key of either."""
    keys = _keys(scheme, len(unit))
    templates = [scheme.enroll(face, key) for face, key in zip(unit, keys, strict=True)]
    gallery = scheme.gallery(templates, keys)
    same: list[NDArray[np.float32]] = []

    def strangers() -> Iterator[NDArray[np.float32]]:
        for begin in range(0, len(unit), _PROBES):
            probes = np.arange(begin, min(begin + _PROBES, len(unit)))
            scores = np.stack([gallery.scores(unit[probe]) for probe in probes])
            one = identity[probes, None] == identity[None]
            yield scores[~one]
            one[np.arange(len(probes)), probes] = False  # with itself
            same.append(scores[one])
            progress(len(probes))

    return choose_limits(strangers(), pairs, lambda: np.concatenate(same))


def _keys(scheme: Scheme[Any], count: int) -> list[RecordKey]:
    """Keys that a measurement draws again when it is repeated."""
    return [RecordKey(hashlib.sha256(f"{scheme.name} {number}".encode()).digest()) for number in range(count)]
