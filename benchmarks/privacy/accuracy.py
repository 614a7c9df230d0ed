"""Cost of protection: LFW's view 2 with keys kept secret and stolen, and a search among many."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.privacy.subjects import fresh_keys, pair_scores, rows, stored
from edge_stscq.evaluation.verification.pairs import Pairs, verify
from edge_stscq.privacy import Gallery, Scheme

RECORDS = 100_000
EXPANDED = 1_000
"""Records that are really expanded; their rows are repeated to make up the gallery."""
SEARCHES = 11


def accuracy(
    scheme: Scheme[Any], first: NDArray[np.float32], second: NDArray[np.float32], pairs: Pairs
) -> Mapping[str, Any]:
    """Verification of pairs, embeddings `[P, 128]` each, in both scenarios.

    Own secret: everyone is matched under a key of his own. Stolen secret: a stranger is matched under the key of the
    record he claims, as is everybody where a matcher holds the keys.
    """
    keys, others = fresh_keys("enrolled", len(pairs)), fresh_keys("stranger", len(pairs))
    stolen = pair_scores(scheme, first, keys, second, keys)
    strange = np.flatnonzero(~pairs.same)
    own = stolen.copy()
    own[strange] = pair_scores(
        scheme, first[strange], [keys[i] for i in strange], second[strange], [others[i] for i in strange]
    )
    return {
        "template_bytes": scheme.template_bytes,
        "own": verify(own, pairs).model_dump(mode="json"), "stolen": verify(stolen, pairs).model_dump(mode="json"),
    }  # fmt: skip


def search(scheme: Scheme[Any], embeddings: NDArray[np.float32]) -> Mapping[str, float]:
    """Processor time of one embedding against 100,000 records whose keys were expanded before."""
    faces = embeddings[np.arange(EXPANDED) % len(embeddings)]
    keys = fresh_keys("searched", EXPANDED)
    values = stored(scheme, faces, keys)
    before = time.process_time()
    expanded = rows(scheme, values, keys)
    expansion = (time.process_time() - before) / EXPANDED
    gallery = Gallery(scheme, np.concatenate([expanded] * (RECORDS // EXPANDED)))
    times = []
    for unit in embeddings[:SEARCHES]:
        before = time.process_time()
        gallery.scores(unit)
        times.append(time.process_time() - before)
    return {
        "records": RECORDS, "milliseconds": float(np.median(times)) * 1e3, "mebibytes": gallery.bytes / 2**20,
        "expansion_microseconds": expansion * 1e6,
    }  # fmt: skip
