"""Weights that int8 holds exactly."""

import copy

import torch
from torch import nn

from edge_stscq.codec.store import round_as_stored
from quantization import calibrate, quantized_encoder, round_weights
from tests.quantization.conftest import Calibrated


def test_rounded_weights_survive_quantisation(calibrated: Calibrated) -> None:
    """Also after they were stored as float16 and after batch norms were folded into them."""
    student = copy.deepcopy(calibrated.student).requires_grad_(False)
    before = [p.clone() for p in student.backbone.parameters()]
    round_weights(student)
    round_as_stored(student)
    changes = [float((a - b).abs().max()) for a, b in zip(before, student.backbone.parameters(), strict=True)]
    assert 0 < max(changes) < 0.1
    quantised = quantized_encoder(student, calibrate(student, calibrated.pictures)).backbone
    held = {tuple(v.shape): v for v in quantised.state_dict().values() if v.dtype == torch.int8 and v.dim() == 2}
    weight = student.backbone.identity.project.weight
    step = weight.abs().amax(1, keepdim=True) / 127
    assert held
    restored = held[tuple(weight.shape)].float() * step
    torch.testing.assert_close(restored, weight, atol=1e-2 * float(step.max()), rtol=1e-3)


def test_rounding_again_changes_nothing(calibrated: Calibrated) -> None:
    student = copy.deepcopy(calibrated.student).requires_grad_(False)
    round_weights(student)
    once = {name: value.clone() for name, value in student.backbone.state_dict().items()}
    round_weights(student)
    for name, value in student.backbone.state_dict().items():
        torch.testing.assert_close(value, once[name], atol=1e-6, rtol=1e-5)
    layer = next(m for m in student.backbone.modules() if isinstance(m, nn.Conv2d))
    scaled = layer.weight / layer.weight.flatten(1).abs().amax(1).view(-1, 1, 1, 1) * 127
    torch.testing.assert_close(scaled, scaled.round(), atol=1e-2, rtol=0)
