"""Perceptual quality of decoded faces, as far as metrics tell.

Beside verification and never instead of it: a face may verify and look wrong. Frechet distance asks whether decoded
faces as a set look like photographs; perceptual distance and SSIMULACRA 2 hold each against its original; excess total
variation sees grain. None of the networks is seen by a loss. `metrics.py` has PSNR and MS-SSIM.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from edge_stscq.evaluation.appearance.frechet import Moments, frechet_distance
from edge_stscq.evaluation.appearance.masked import Mask, only_picture
from edge_stscq.evaluation.appearance.mobilenet import WIDTH, load_mobilenet, pooled_features
from edge_stscq.evaluation.appearance.perceptual import Perceptual
from edge_stscq.evaluation.appearance.ssimulacra import ssimulacra2
from edge_stscq.evaluation.metrics import total_variation

COMPARED = 300
"""Faces that the two slow metrics compare, spread over all: their mean is known to a tenth of their deviation."""


class Appearance(BaseModel):
    """Appearance of the decoded faces of one layer beside their originals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frechet: float = Field(ge=0, description="distance of MobileNetV2's pooled features, all faces; 0 for equal sets")
    total_variation: float | None = Field(
        ge=0, description="of all decoded faces, as a multiple of the originals'; null if those are flat"
    )
    perceptual: float = Field(ge=0, description="mean distance of VGG16's features (evaluation/perceptual.py)")
    ssimulacra2: float = Field(le=100, description="mean score; 100 is no difference")
    compared: int = Field(gt=0, description="faces that `perceptual` and `ssimulacra2` are the mean of")


class AppearanceMeter:
    """Takes faces in batches, then says how they look.

    Args:
        faces: number of faces that will come.
        compared: perceptual distance and SSIMULACRA 2 are computed for at most this many, spread evenly.

    Raises:
        MissingExtraError: a package that ships a network or metric is not installed.
    """

    def __init__(self, faces: int, compared: int = COMPARED) -> None:
        self._net = load_mobilenet()
        self._look = Perceptual()
        self._chosen = np.unique(np.arange(min(compared, faces)) * faces // min(compared, faces))
        self._originals = Moments(WIDTH)
        self._halves = (Moments(WIDTH), Moments(WIDTH))
        self._layers: dict[int, _Layer] = {}
        self._variation = 0.0
        self._done = 0

    def add(
        self, originals: NDArray[np.uint8], decoded: Mapping[int, NDArray[np.uint8]], mask: Mask | None = None
    ) -> None:
        """Take in the next faces, uint8 [N, S, S, 3] RGB, as decoded from each number of layers.

        Args:
            mask: what of the originals is picture, bool or float [N, S, S]; otherwise all of it.
        """
        count = len(originals)
        places = np.arange(self._done, self._done + count)
        close = np.flatnonzero(np.isin(places, self._chosen))
        self._done += count
        features = pooled_features(self._net, originals)
        self._originals.add(features)
        for half, moments in enumerate(self._halves):
            moments.add(features[places % 2 == half])
        self._variation += float(total_variation(originals, mask).sum())
        maps = self._look.features(originals[close]) if len(close) else []
        for layer, images in decoded.items():
            shown = only_picture(originals, images, mask)
            row = self._layers.setdefault(layer, _Layer())
            row.moments.add(pooled_features(self._net, shown))
            row.variation += float(total_variation(shown, mask).sum())
            if len(close):
                row.perceptual.extend(self._look.distance(maps, self._look.features(shown[close])))
                row.ssimulacra2.extend(ssimulacra2(originals[close], shown[close]))

    def result(self, layer: int) -> Appearance:
        """Appearance of the faces of this number of layers."""
        row = self._layers[layer]
        return Appearance(
            frechet=frechet_distance(self._originals, row.moments),
            total_variation=row.variation / self._variation if self._variation else None,
            perceptual=float(np.mean(row.perceptual)),
            ssimulacra2=float(np.mean(row.ssimulacra2)),
            compared=len(row.perceptual),
        )

    def between_halves(self) -> float:
        """Frechet distance between every second original and the others: photographs of other people, half as many."""
        return frechet_distance(*self._halves)


class _Layer:
    """Metrics of one number of layers, gathered so far."""

    def __init__(self) -> None:
        self.moments = Moments(WIDTH)
        self.variation = 0.0
        self.perceptual: list[float] = []
        self.ssimulacra2: list[float] = []
