"""Parity of made-up artefacts whose mistakes are known, and its thresholds."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.evaluation.parity import Measured, Reference, failures, measure, steps
from edge_stscq.evaluation.subject import Codes, Progress, quiet
from edge_stscq.evaluation.thresholds import Thresholds

FACES, ENDS = 10, (1, 2, 4)
IMAGES = np.zeros((FACES, 128, 128, 3), np.uint8)
BOOKS = np.random.default_rng(0).standard_normal((2, 4, 3, 2)).astype(np.float32)


def right() -> Codes:
    return Codes(np.zeros(FACES, np.int32), np.zeros((FACES, 4), np.int32))


def encode(flips: list[tuple[int, int]]):  # noqa: ANN201
    """An encoder that is right except for token `position` of `face`, which is 1."""

    def run(images: NDArray[np.uint8], progress: Progress = quiet) -> Codes:
        codes = right()
        for face, position in flips:
            codes.tokens[face, position] = 1
        progress(len(images))
        return codes

    return run


def decode(codes: Codes) -> NDArray[np.uint8]:
    """A face is as bright as ten times its number of wrong tokens."""
    bright = (10 * codes.tokens.sum(axis=1)).astype(np.uint8)
    return np.broadcast_to(bright[:, None, None, None], (len(bright), 128, 128, 3))


def embed(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turns by a right angle at the brightness 20."""
    angle = faces[:, 0, 0, 0].astype(np.float32) * np.pi / 40
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def run(artefact: list[tuple[int, int]], graph: list[tuple[int, int]] | None, progress: Progress = quiet) -> Measured:
    def analyse(images: NDArray[np.uint8], progress: Progress) -> tuple[Codes, NDArray[np.float32]]:
        progress(len(images))
        return right(), np.ones((FACES, 4), np.float32)

    reference = Reference(analyse, decode, BOOKS, ENDS)
    quantised = None if graph is None else encode(graph)
    return measure(IMAGES, encode(artefact), quantised, reference, embed, "an angle", progress)


def test_both_questions_are_kept_apart() -> None:
    result = run(artefact=[(0, 0), (1, 3)], graph=[(0, 0)])
    assert result.runtime.tokens == pytest.approx(39 / 40)
    assert result.runtime.layers == (1, 1, 19 / 20)
    assert result.quantisation is not None
    assert result.quantisation.tokens == pytest.approx(39 / 40)
    assert result.quantisation.layers == (9 / 10, 1, 1)
    assert result.device.tokens == pytest.approx(38 / 40)


def test_fp32_artefact_has_no_quantisation_to_judge() -> None:
    result = run(artefact=[(0, 0)], graph=None)
    assert result.quantisation is None
    assert result.runtime == result.device


def test_pictures_of_device_codes() -> None:
    pictures = run(artefact=[(0, 0), (0, 1)], graph=[]).pictures
    assert pictures.identical == pytest.approx(0.9)
    assert pictures.psnr_worst == pytest.approx(10 * np.log10(255**2 / 400))
    assert pictures.psnr == pytest.approx(10 * np.log10(255**2 / 40))
    assert pictures.identity == pytest.approx(0.9)
    assert pictures.identity_worst == pytest.approx(0, abs=1e-6)
    assert pictures.embedded_by == "an angle"


def test_equal_pictures_have_no_psnr() -> None:
    pictures = run(artefact=[], graph=[]).pictures
    assert (pictures.psnr, pictures.psnr_worst, pictures.identity, pictures.identical) == (None, None, 1, 1)


@pytest.mark.parametrize("graph", [None, [(2, 2)]])
def test_progress_adds_up(graph: list[tuple[int, int]] | None) -> None:
    seen: list[int] = []
    run([(0, 0), (5, 1)], graph, seen.append)
    assert sum(seen) == steps(FACES, quantised=graph is not None)


def test_each_threshold_has_its_line() -> None:
    strict = Thresholds(runtime_agreement=1, token_agreement=1, group_agreement=1, identity=1)
    low = run(artefact=[(0, 0), (0, 1)], graph=[])
    lines = failures(low, strict)
    assert len(lines) == 3  # groups do agree
    assert lines[1] == "token agreement with full precision is 0.9500, at least 1 is asked"
    assert failures(low, Thresholds(runtime_agreement=0.9, token_agreement=0.95, identity=0.89)) == ()
    assert failures(run(artefact=[], graph=[]), strict) == ()
