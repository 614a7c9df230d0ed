"""Pictures out of templates: an inverted embedding, the basic layer nearest to it, and what our decoder makes of that.

Judged by a recognizer that neither our training nor the attacker has seen (dlib's ResNet), against another photograph
of the person, at the distance that one in a thousand pairs of strangers' photographs come under. Chance is how often
the same pictures pass for other people.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from benchmarks.privacy.brute_force import BasicLayer, search
from benchmarks.privacy.inversion import Attack
from benchmarks.privacy.subjects import fresh_keys, stored
from edge_stscq.codec.model import Codec
from edge_stscq.recognizers.dlib_resnet import DlibRecognizer
from edge_stscq.stream import Codes

Crops = NDArray[np.uint8]


class PictureJudge:
    """Judges pictures of people by other photographs of theirs.

    Args:
        photographs: crops `[N, 128, 128, 3]`, one of each person, from which templates are made.
        others: another crop of each, in the same order.
        false_matches: share of strangers' photographs that pass.

    Attributes:
        threshold: distance below which two pictures are one person's.
    """

    def __init__(self, codec: Codec, photographs: Crops, others: Crops, false_matches: float) -> None:
        self._codec, self._layer, self._net = codec, BasicLayer(codec), DlibRecognizer()
        self._others, self._mates = self._net.embed(others), np.eye(len(others), dtype=bool)
        distances = self._distances(photographs)
        self.threshold = float(np.quantile(distances[~self._mates], false_matches))
        self.photographs = self._told(distances)
        """Shares of the photographs themselves."""

    def judge(self, pictures: Crops) -> Mapping[str, float]:
        """Share of pictures `[N, 128, 128, 3]` that pass for their person, and for others."""
        return self._told(self._distances(pictures))

    def attacked(self, attack: Attack, embeddings: NDArray[np.float32]) -> Mapping[str, float]:
        """Shares of pictures drawn from one template of each person's embedding `[N, 128]`."""
        keys = fresh_keys("drawn", len(embeddings))
        return self.judge(self.draw(attack.invert(stored(attack.scheme, embeddings, keys), keys)))

    def draw(self, guesses: NDArray[np.float32]) -> Crops:
        """Faces that our decoder makes of embeddings `[N, 128]`, by the basic layers that come nearest to them."""
        found = [self._nearest(guess) for guess in guesses]
        codes = Codes([group for group, _ in found], [tokens for _, tokens in found], 1)
        return self._codec.decode(codes, 1)

    def _nearest(self, guess: NDArray[np.float32]) -> tuple[int, list[int]]:
        groups = range(len(self._layer.parts))
        searched = [(*search(self._layer, group, guess, lambda units: units @ guess), group) for group in groups]
        _, tokens, group = max(searched, key=lambda one: one[0])
        return group, tokens

    def _distances(self, pictures: Crops) -> NDArray[np.float32]:
        """Distance of each picture to each person's other photograph, `[N, N]`."""
        rows = self._net.embed(pictures)
        distances: NDArray[np.float32] = np.linalg.norm(rows[:, None] - self._others[None], axis=2)
        return distances

    def _told(self, distances: NDArray[np.float32]) -> Mapping[str, float]:
        passed = distances < self.threshold
        return {"person": float(passed[self._mates].mean()), "chance": float(passed[~self._mates].mean())}
