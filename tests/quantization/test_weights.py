"""Weights held as int8, arithmetic in float32: the student's own function but for the fine rounding between layers."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from edge_stscq.errors import EdgeError
from quantization import (
    agreement,
    analyse,
    calibrate,
    captured_graph,
    equalize,
    quantized_encoder,
    round_weights,
    sqnr,
    weight_only_encoder,
)
from tests.support.models.calibrated_model import Calibrated


def test_nearer_to_the_student_than_int8(calibrated: Calibrated) -> None:
    student = copy.deepcopy(calibrated.student).requires_grad_(False)
    equalize(student, torch.from_numpy(calibrated.pictures))
    round_weights(student, torch.from_numpy(calibrated.pictures))
    calibration = calibrate(student, calibrated.pictures)
    full = analyse(student, calibrated.pictures)
    held = analyse(weight_only_encoder(student, calibration), calibrated.pictures)
    int8 = analyse(quantized_encoder(student, calibration), calibrated.pictures)
    noise, coarse = sqnr(full.z, held.z), sqnr(full.z, int8.z)
    assert noise is not None
    assert coarse is not None
    assert noise > coarse + 10
    assert agreement(full, held) >= agreement(full, int8)


def test_every_weight_of_the_backbone_is_int8_and_nothing_else(calibrated: Calibrated) -> None:
    program = captured_graph(weight_only_encoder(calibrated.student, calibrated.calibration))
    layers = [m for m in calibrated.student.backbone.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    held = [tensor for tensor in program.constants.values() if getattr(tensor, "dtype", None) == torch.int8]
    held += [tensor for tensor in program.state_dict.values() if tensor.dtype == torch.int8]
    assert sorted(t.numel() for t in held) == sorted(m.weight.numel() for m in layers)
    assert not [n for n in program.graph.nodes if str(n.target).startswith("quantized_decomposed.quantize")]


def test_ranges_of_another_student_are_refused(calibrated: Calibrated) -> None:
    with pytest.raises(EdgeError, match="another student"):
        weight_only_encoder(calibrated.student, replace(calibrated.calibration, backbone_sha256="0"))
