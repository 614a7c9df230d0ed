"""Ranges measured once must come back exactly, and must not be applied to any other student."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from edge_stscq.codec.store import load_student
from edge_stscq.errors import EdgeError
from quantization import Calibration, backbone_sha256, calibrate, quantized_encoder
from tests.support.models.calibrated_model import Calibrated

Ranges = dict[str, NDArray[np.float32]]


def test_says_what_it_saw(calibrated: Calibrated) -> None:
    calibration = calibrated.calibration
    assert calibration.count == len(calibrated.pictures)
    assert calibration.faces_sha256 == hashlib.sha256(calibrated.pictures.tobytes()).hexdigest()
    assert calibration.backbone_sha256 == backbone_sha256(calibrated.student.backbone)


def test_comes_back_from_disk(calibrated: Calibrated, tmp_path: Path) -> None:
    calibrated.calibration.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["calibration.safetensors"]
    loaded = Calibration.load(tmp_path)
    assert loaded.ranges.keys() == calibrated.calibration.ranges.keys()
    for name, pair in calibrated.calibration.ranges.items():
        np.testing.assert_array_equal(loaded.ranges[name], pair)
    assert loaded.biases.keys() == calibrated.calibration.biases.keys()
    for name, shift in calibrated.calibration.biases.items():
        np.testing.assert_array_equal(loaded.biases[name], shift)
    empty = {"ranges": {}, "biases": {}}
    assert vars(replace(loaded, **empty)) == vars(replace(calibrated.calibration, **empty))  # type: ignore[arg-type]


def test_kept_layers_and_observer_come_back_from_disk(calibrated: Calibrated, tmp_path: Path) -> None:
    changed = replace(calibrated.calibration, kept=("spatial.2", "spatial.6"), observer="percentile 99.9")
    changed.save(tmp_path)
    loaded = Calibration.load(tmp_path)
    assert (loaded.kept, loaded.observer) == (("spatial.2", "spatial.6"), "percentile 99.9")
    assert "ranges by percentile 99.9; biases corrected; kept in float32: spatial.2, spatial.6" in loaded.scheme


def test_input_range_is_that_of_all_pictures(calibrated: Calibrated) -> None:
    """(image - 128) / 128 in int8 is then image - 128: the input loses nothing."""
    low, high = calibrated.calibration.ranges["image"]
    assert (low, high) == (-1.0, 127 / 128)


def test_ranges_hold_the_rectified_activations(calibrated: Calibrated) -> None:
    rectified = {name: pair for name, pair in calibrated.calibration.ranges.items() if name.startswith("relu")}
    assert len(rectified) == 32
    assert all(pair[0] == 0 < pair[1] for pair in rectified.values())


def test_missing_file_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match=r"does not exist and int8 needs it; run: edge-stscq quantize"):
        Calibration.load(tmp_path)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_file_is_refused(calibrated: Calibrated, tmp_path: Path, keep: int) -> None:
    path = calibrated.calibration.save(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(EdgeError, match="damaged.*edge-stscq quantize"):
        Calibration.load(tmp_path)


@pytest.mark.parametrize("pair", [[1.0, -1.0], [np.nan, 1.0], [0.0, np.inf], [0.0, 1.0, 2.0]])
def test_impossible_range_is_refused(calibrated: Calibrated, tmp_path: Path, pair: list[float]) -> None:
    ranges = {**calibrated.calibration.ranges, "relu_1": np.array(pair, np.float32)}
    replace(calibrated.calibration, ranges=ranges).save(tmp_path)
    with pytest.raises(EdgeError, match=r"no range for relu_1"):
        Calibration.load(tmp_path)


@pytest.mark.parametrize("bias", [[[1.0, 1.0]], [np.nan, 1.0], 1.0])
def test_impossible_bias_is_refused(calibrated: Calibrated, tmp_path: Path, bias: list[float]) -> None:
    biases = {**calibrated.calibration.biases, "spatial.0": np.array(bias, np.float32)}
    replace(calibrated.calibration, biases=biases).save(tmp_path)
    with pytest.raises(EdgeError, match=r"no bias for spatial\.0"):
        Calibration.load(tmp_path)


@pytest.mark.parametrize(
    ("biases", "message"),
    [
        ({}, r"do not fit the student's graph \(first at identity\.features\.0\)"),
        ({"spatial.1": np.zeros(8, np.float32)}, r"do not fit the student's graph \(first at spatial\.1\)"),
        ({"spatial.0": np.zeros(9, np.float32)}, r"bias for spatial\.0 has 9 channels, not 8"),
    ],
)
def test_biases_of_another_graph_are_refused(
    calibrated: Calibrated, biases: dict[str, NDArray[np.float32]], message: str
) -> None:
    every = {**calibrated.calibration.biases, **biases}
    if not biases:
        del every["identity.features.0"]
    with pytest.raises(EdgeError, match=f"{message}.*edge-stscq quantize"):
        quantized_encoder(calibrated.student, replace(calibrated.calibration, biases=every))


def test_a_file_without_an_observer_is_refused(calibrated: Calibrated, tmp_path: Path) -> None:
    metadata = {"count": "1", "faces_sha256": "", "backbone_sha256": ""}
    content = safetensors.numpy.save(dict(calibrated.calibration.ranges), metadata)
    (tmp_path / "calibration.safetensors").write_bytes(content)
    with pytest.raises(EdgeError, match="lacks 'observer'.*earlier version.*edge-stscq quantize"):
        Calibration.load(tmp_path)


def test_another_student_is_refused(calibrated: Calibrated, tiny_model: Path) -> None:
    student = load_student(tiny_model)
    next(student.backbone.parameters()).data[0] += 1e-3
    with pytest.raises(EdgeError, match="another student.*edge-stscq quantize"):
        quantized_encoder(student, calibrated.calibration)


def _renamed(ranges: Ranges) -> Ranges:
    return {"relu_x" if name == "relu_1" else name: pair for name, pair in ranges.items()}


def _torn(ranges: Ranges) -> Ranges:
    return ranges | {"flatten": ranges["flatten"] * 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [(_renamed, r"does not fit the student's graph \(first at relu_1\)"), (_torn, "flatten different ranges")],
)
def test_other_graph_is_refused(calibrated: Calibrated, change: Callable[[Ranges], Ranges], message: str) -> None:
    """A name that is missing, and tensors that share an observer (both sides of the flatten) given different ranges."""
    changed = replace(calibrated.calibration, ranges=change(dict(calibrated.calibration.ranges)))
    with pytest.raises(EdgeError, match=f"{message}.*edge-stscq quantize"):
        quantized_encoder(calibrated.student, changed)


def test_no_pictures(calibrated: Calibrated) -> None:
    with pytest.raises(EdgeError, match="no pictures to calibrate with"):
        calibrate(calibrated.student, [])
