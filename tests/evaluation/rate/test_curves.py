"""Convex hulls, savings and the store of measured points, on curves whose answers are known."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.rate.curves import Curve, Point, PointCache, compare, hull
from edge_stscq.evaluation.rate.plot import plot
from edge_stscq.evaluation.verification.layers import LayerResult, VerificationReport
from edge_stscq.evaluation.verification.pairs import Verification


def point(size: float, accuracy: float, setting: str = "some") -> Point:
    return Point(
        setting=setting, container_bytes=size + 6, payload_bytes=size, accuracy=accuracy, standard_error=0.01,
        identity=0.5,
    )  # fmt: skip


def curve(*rows: tuple[float, float]) -> Curve:
    return Curve(codec="peer", version="1", points=tuple(point(*row) for row in rows))


def verification(accuracy: float) -> Verification:
    return Verification(
        accuracy=accuracy, standard_error=0.01, tar_at_far=accuracy / 2, threshold=0.3, pairs=1200, folds=2
    )


def judged(*rows: tuple[float, float]) -> VerificationReport:
    layers = tuple(
        LayerResult(
            name=name, tokens=16, payload_bytes=size, entropy_coded=True, psnr=20.0, ms_ssim=0.7,
            identity={"judge": 0.5}, compressed=None, decoded={"judge": verification(accuracy)},
        )
        for name, (size, accuracy) in zip(("basic", "middle", "enhanced"), rows, strict=True)
    )  # fmt: skip
    return VerificationReport(
        subject="student", model="tiny", protocol="pairs", faces=9, originals={"judge": verification(0.99)},
        layers=layers,
    )  # fmt: skip


def test_hull_keeps_what_pays() -> None:
    """Dearer and worse, dearer and equal, and below the line between its neighbours: all three go."""
    points = curve((100, 0.6), (200, 0.55), (400, 0.8), (200, 0.65), (500, 0.8), (800, 0.9)).points
    sizes, accuracies = hull(points, "payload")
    np.testing.assert_allclose(np.exp(sizes), [100, 400, 800])
    np.testing.assert_allclose(accuracies, [0.6, 0.8, 0.9])


def test_half_the_bytes_are_a_saving_of_half() -> None:
    rows = ((40.0, 0.6), (80.0, 0.8), (160.0, 0.9))
    report = compare(judged(*rows), "judge", [curve(*((2 * size, accuracy) for size, accuracy in rows))], {})
    payload = next(row for row in report.savings if row.counted == "payload")
    assert payload.bjontegaard == pytest.approx(0.5)
    assert payload.at_layer == pytest.approx({"basic": 0.5, "middle": 0.5, "enhanced": 0.5})


def test_the_overhead_of_a_frame_is_counted_as_sent() -> None:
    report = compare(judged((40.0, 0.6), (80.0, 0.8), (160.0, 0.9)), "judge", [], {"VVC": "not installed"})
    assert [p.container_bytes - p.payload_bytes for p in report.ours.points] == [6, 6, 6]
    assert report.missing == {"VVC": "not installed"}


def test_no_saving_is_claimed_where_accuracies_do_not_meet() -> None:
    report = compare(judged((16.0, 0.6), (32.0, 0.8), (64.0, 0.95)), "judge", [curve((100, 0.7), (300, 0.9))], {})
    payload = next(row for row in report.savings if row.counted == "payload")
    assert payload.at_layer["basic"] is None
    assert payload.at_layer["enhanced"] is None
    assert payload.at_layer["middle"] == pytest.approx(1 - 32 / np.sqrt(100 * 300))
    apart = compare(judged((16.0, 0.6), (32.0, 0.65), (64.0, 0.68)), "judge", [curve((100, 0.7), (300, 0.9))], {})
    assert {row.bjontegaard for row in apart.savings} == {None}


def test_points_are_measured_once(tmp_path: Path) -> None:
    path, calls = tmp_path / "points.jsonl", []

    def measure() -> Point:
        calls.append(1)
        return point(100, 0.8)

    first = PointCache(path).get_or_measure("a", measure)
    again = PointCache(path)
    assert again.get_or_measure("a", measure) == first
    again.get_or_measure("b", measure)
    assert len(calls) == 2


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "points.jsonl"
    path.write_text('{"key": "a", "point": {"accuracy": 2}}\n')
    with pytest.raises(EdgeError, match="remove it"):
        PointCache(path)


def test_the_picture_is_a_picture() -> None:
    report = compare(judged((16.0, 0.6), (32.0, 0.8), (64.0, 0.95)), "judge", [curve((100, 0.7), (300, 0.9))], {})
    image = cv2.imdecode(np.frombuffer(plot(report), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[0] > 400
    assert image.std() > 10
