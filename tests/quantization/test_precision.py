"""One capture for every precision, and its graph run crop by crop."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_stscq.bundle.manifest import Precision
from edge_stscq.codec.integer.encoder import IntegerEncoder
from edge_stscq.codec.store import load_student
from edge_stscq.errors import EdgeError
from quantization import capture, quantized_encoder, run_graph, weight_only_encoder
from tests.support.models.calibrated_model import Calibrated
from tests.support.models.integer_model import write_integer_model

MAKE = {"fp32": lambda student, _: student, "w8": weight_only_encoder, "int8": quantized_encoder}


@pytest.mark.parametrize("precision", MAKE)
def test_graph_answers_as_the_module_of_that_precision(calibrated: Calibrated, precision: Precision) -> None:
    captured = capture(calibrated.student, precision, calibrated.calibration)
    images, told = calibrated.pictures[:4].copy(), []
    images.flags.writeable = False
    groups, tokens = run_graph(captured.program, images, told.append)
    assert told == [1] * 4
    assert groups.dtype == tokens.dtype == np.int32
    expected = MAKE[precision](calibrated.student, calibrated.calibration)
    for module in (captured.module, expected):
        answers = [module(torch.from_numpy(image[None].copy())) for image in images]
        np.testing.assert_array_equal(groups, torch.cat([group for group, _ in answers]))
        np.testing.assert_array_equal(tokens, torch.cat([tokens for _, tokens in answers]))


def test_capture_without_its_calibration_is_refused(calibrated: Calibrated) -> None:
    with pytest.raises(EdgeError, match="needs a calibration; run `edge-stscq quantize`"):
        capture(calibrated.student, "int8")
    with pytest.raises(EdgeError, match="another student"):
        capture(calibrated.student, "w8", replace(calibrated.calibration, backbone_sha256="0"))


def test_a_student_made_for_integers_is_captured_in_full_precision_only(calibrated: Calibrated, tmp_path: Path) -> None:
    student = load_student(write_integer_model(tmp_path / "integers"))
    assert isinstance(student, IntegerEncoder)
    with pytest.raises(EdgeError, match="made for integers is not quantized to w8"):
        capture(student, "w8", calibrated.calibration)
