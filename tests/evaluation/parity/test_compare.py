"""Parity of made-up artefacts whose mistakes are known, its checks, and artefacts beside each other."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq._progress import Progress, no_progress
from edge_stscq.config.thresholds import Thresholds
from edge_stscq.data.crops import Faces
from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.parity.accuracy import accuracy
from edge_stscq.evaluation.parity.compare import (
    WORST,
    BundleResult,
    Comparison,
    Parity,
    Reference,
    checks,
    compare_codes,
)
from edge_stscq.evaluation.parity.cross_target import cross_target_agreement
from edge_stscq.evaluation.verification.layers import LayerResult, VerificationReport
from edge_stscq.evaluation.verification.pairs import Verification
from edge_stscq.stream import Codes

FACES, ENDS = 10, (1, 2, 4)
LAYER_NAMES = ("basic", "middle", "enhanced")
IMAGES = np.zeros((FACES, 128, 128, 3), np.uint8)
NAMES = tuple(f"face {i}" for i in range(FACES))
VECTORS = np.full((FACES, 4, 2), (0.1, 0), np.float32)
"""Nearest to entry 0: squared distances of 0.01 and of 0.81 from the others' first."""
BOOKS = np.tile(np.array([[0, 0], [1, 0], [0, 1]], np.float32), (2, 4, 1, 1))

Flips = list[tuple[int, int]]


def coded(flips: Flips) -> Codes:
    """Codes that are right (all zero) except for token `position` of `face`, which is 1."""
    codes = Codes(np.zeros(FACES, np.int32), np.zeros((FACES, 4), np.int32), 3)
    for face, position in flips:
        codes.tokens[face, position] = 1
    return codes


def decode(codes: Codes) -> NDArray[np.uint8]:
    """A face is as bright as ten times its number of wrong tokens."""
    bright = (10 * codes.tokens.sum(axis=1)).astype(np.uint8)
    return np.broadcast_to(bright[:, None, None, None], (len(bright), 128, 128, 3))


def embed(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turns by a right angle at the brightness 20."""
    angle = faces[:, 0, 0, 0].astype(np.float32) * np.pi / 40
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def run(artifact: Flips, graph: Flips | None, progress: Progress = no_progress) -> Comparison:
    margin = np.ones((FACES, 4), np.float32)
    reference = Reference(
        Faces(NAMES, IMAGES), coded([]), margin, VECTORS, decode, embed, "an angle", BOOKS, LAYER_NAMES, ENDS
    )
    return compare_codes(reference, coded(artifact), None if graph is None else coded(graph), progress)


def test_both_questions_are_kept_apart() -> None:
    result = run(artifact=[(0, 0), (1, 3)], graph=[(0, 0)])
    assert result.runtime.tokens == pytest.approx(39 / 40)
    assert result.runtime.layers == (1, 1, 19 / 20)
    assert result.quantisation is not None
    assert result.quantisation.tokens == pytest.approx(39 / 40)
    assert result.quantisation.layers == (9 / 10, 1, 1)
    assert result.device.tokens == pytest.approx(38 / 40)


def test_fp32_artifact_has_no_quantization_to_judge() -> None:
    result = run(artifact=[(0, 0)], graph=None)
    assert result.quantisation is None
    assert result.runtime == result.device


def test_pictures_of_device_codes() -> None:
    pictures = run(artifact=[(0, 0), (0, 1)], graph=[]).pictures
    assert pictures.identical == pytest.approx(0.9)
    assert pictures.psnr_worst == pytest.approx(10 * np.log10(255**2 / 400))
    assert pictures.psnr == pytest.approx(10 * np.log10(255**2 / 40))
    assert pictures.identity == pytest.approx(0.9)
    assert pictures.identity_worst == pytest.approx(0, abs=1e-6)
    assert pictures.embedded_by == "an angle"


def test_equal_pictures_have_no_psnr_and_no_worst() -> None:
    result = run(artifact=[], graph=[])
    pictures = result.pictures
    assert (pictures.psnr, pictures.psnr_worst, pictures.identity, pictures.identical) == (None, None, 1, 1)
    assert pictures.worst == ()
    assert result.portraits.shape == (0, 3, 128, 128, 3)


def test_the_worst_faces_come_first_with_their_pictures() -> None:
    result = run(artifact=[(4, 0), (7, 1), (7, 3), (2, 2)], graph=None)
    worst = result.pictures.worst
    assert [(face.face, face.tokens, face.same_group) for face in worst] == [
        ("face 7", 2, True), ("face 2", 1, True), ("face 4", 1, True),
    ]  # fmt: skip
    assert [face.identity for face in worst] == pytest.approx([0, np.sqrt(0.5), np.sqrt(0.5)], abs=1e-6)
    assert worst[1].psnr == pytest.approx(10 * np.log10(255**2 / 100))
    assert result.portraits[:, :, 0, 0, 0].tolist() == [[0, 0, 20], [0, 0, 10], [0, 0, 10]]


def test_another_group_is_among_the_worst() -> None:
    reference = Reference(
        Faces(NAMES, IMAGES),
        coded([]),
        np.ones((FACES, 4), np.float32),
        VECTORS,
        decode,
        embed,
        "an angle",
        BOOKS,
        LAYER_NAMES,
        ENDS,
    )
    device = coded([])
    device.group[3] = 1
    worst = compare_codes(reference, device, None).pictures.worst
    assert [(face.face, face.tokens, face.same_group, face.psnr) for face in worst] == [("face 3", 4, False, None)]


def test_no_more_than_ten_are_the_worst() -> None:
    """All faces of two sets side by side are wrong."""
    names, images = NAMES + tuple(f"again {i}" for i in range(FACES)), np.concatenate([IMAGES, IMAGES])
    right, wrong = (Codes(np.zeros(20, np.int32), np.full((20, 4), value, np.int32), 3) for value in (0, 1))
    margin = np.ones((20, 4), np.float32)
    result = compare_codes(
        Reference(
            Faces(names, images), right, margin, np.concatenate([VECTORS, VECTORS]), decode, embed, "an angle", BOOKS,
            LAYER_NAMES, ENDS,
        ),
        wrong, None,
    )  # fmt: skip
    assert len(result.pictures.worst) == len(result.portraits) == WORST


@pytest.mark.parametrize("graph", [None, [(2, 2)]])
def test_progress_tells_of_every_face(graph: Flips | None) -> None:
    seen: list[int] = []
    run([(0, 0), (5, 1)], graph, seen.append)
    assert sum(seen) == FACES


def test_each_threshold_has_its_check() -> None:
    strict = Thresholds(runtime_agreement=1, token_agreement=1, clear_agreement=1, group_agreement=1, identity=1)
    low = run(artifact=[(0, 0), (0, 1)], graph=[])
    found = checks(low, None, strict)
    assert len(found) == 5
    # All margins are alike, so no token is above the median of the flips: nothing there is wrong. Groups do agree.
    assert [check.passed for check in found] == [False, False, True, True, False]
    assert str(found[1]) == "token agreement with full precision is 0.9500, at least 1 is asked"
    # One of ten tokens is wrong in each of the first two layers: (9 * 0.01 + 0.81) / (10 * 0.01) - 1.
    assert low.device.excess_distortion == pytest.approx((8, 8, 0))
    costly, cheap = (Thresholds(excess_distortion=limit, group_agreement=None) for limit in (7.9, 8.1))
    assert [checks(low, None, thresholds)[-1].passed for thresholds in (costly, cheap)] == [False, True]
    assert "group" not in " ".join(check.figure for check in checks(low, None, cheap))
    lax = Thresholds(runtime_agreement=0.9, token_agreement=0.95, identity=0.89)
    assert all(check.passed for check in checks(low, None, lax))
    assert all(check.passed for check in checks(run(artifact=[], graph=[]), None, strict))


def verification(value: float) -> Verification:
    return Verification(accuracy=value, standard_error=0.01, tar_at_far=0.5, threshold=0.3, pairs=600, folds=2)


def judgement(compressed: list[float | None], decoded: list[dict[str, float]]) -> VerificationReport:
    layers = [
        LayerResult.model_construct(
            name=name,
            compressed=None if own is None else verification(own),
            decoded={net: verification(value) for net, value in seen.items()},
        )
        for name, own, seen in zip(("basic", "middle", "enhanced"), compressed, decoded, strict=True)
    ]
    return VerificationReport.model_construct(protocol="two folds", layers=tuple(layers))


def test_the_layer_that_loses_most_accuracy_is_judged() -> None:
    full = judgement([0.9, 0.95, 0.95], [{"net": 0.8}, {"net": 0.9}, {"net": 0.9}])
    device = judgement([0.91, 0.95, 0.949], [{"net": 0.8}, {"net": 0.885}, {"net": 0.9}])
    found = accuracy(full, device)
    assert [(row.layer, row.compared, row.lost) for row in found.rows] == [
        ("basic", "compressed domain", -0.01), ("basic", "decoded, net", 0),
        ("middle", "compressed domain", 0), ("middle", "decoded, net", 0.015),
        ("enhanced", "compressed domain", 0.001), ("enhanced", "decoded, net", 0),
    ]  # fmt: skip
    check = checks(run([], []), found, Thresholds(accuracy_lost=0.01))[-1]
    assert not check.passed
    assert str(check) == "accuracy lost (middle, decoded, net) is 0.0150, at most 0.01 is asked"
    assert checks(run([], []), found, Thresholds(accuracy_lost=0.015))[-1].passed


def test_compare_leaves_out_a_layer_without_identity() -> None:
    """A layer without identity is left out and nothing at all is refused."""
    one = judgement([None, 0.9, 0.9], [{}, {}, {}])
    assert [row.layer for row in accuracy(one, one).rows] == ["middle", "enhanced"]
    nothing = judgement([None] * 3, [{}] * 3)
    with pytest.raises(EdgeError, match="--recognisers"):
        accuracy(nothing, nothing)


def judged(name: str, precision: str, flips: Flips) -> BundleResult:
    comparison = run(flips, None)
    report = Parity(
        layer_names=LAYER_NAMES,
        bundle=name, model="m", model_id="0" * 16, target="onnx", precision=precision, executor="a runtime",
        faces="nowhere", layer_ends=ENDS, runtime=comparison.runtime, quantisation=None, device=comparison.device,
        pictures=comparison.pictures, accuracy=None, checks=(), passed=True,
    )  # fmt: skip
    return BundleResult(report, coded(flips), comparison.portraits)


def test_artifacts_of_one_precision_must_agree() -> None:
    three = [judged("a", "int8", [(0, 0)]), judged("b", "int8", [(0, 0), (1, 1)]), judged("c", "fp32", [])]
    result = cross_target_agreement(three, least=0.99)
    assert result.bundles == ("a", "b", "c")
    assert result.tokens == ((1, 39 / 40, 39 / 40), (39 / 40, 1, 38 / 40), (39 / 40, 38 / 40, 1))
    assert [str(check) for check in result.checks] == ["token agreement of a and b is 0.9750, at least 0.99 is asked"]
    assert not result.passed
    assert cross_target_agreement(three, least=0.975).passed
