"""Weights that int8 holds exactly."""

import copy

import torch

from edge_stscq.codec.store import round_as_stored
from quantization import calibrate, quantized_encoder, round_weights
from quantization.rounding import _rounded, weight_steps
from tests.support.models.calibrated_model import Calibrated


def test_rounded_weights_survive_quantization(calibrated: Calibrated) -> None:
    """Also after they were stored as float16."""
    student = copy.deepcopy(calibrated.student).requires_grad_(False)
    before = [p.clone() for p in student.backbone.parameters()]
    round_weights(student, torch.from_numpy(calibrated.pictures))
    round_as_stored(student)
    changes = [float((a - b).abs().max()) for a, b in zip(before, student.backbone.parameters(), strict=True)]
    assert 0 < max(changes) < 0.1
    quantized = quantized_encoder(student, calibrate(student, calibrated.pictures)).backbone
    held = {tuple(v.shape): v for v in quantized.state_dict().values() if v.dtype == torch.int8 and v.dim() == 2}
    weight = student.backbone.identity.project.weight
    assert held
    assert torch.equal(held[tuple(weight.shape)] * weight_steps(weight)[:, None], weight)


def test_rounding_again_changes_nothing(calibrated: Calibrated) -> None:
    student = copy.deepcopy(calibrated.student).requires_grad_(False)
    round_weights(student, torch.from_numpy(calibrated.pictures))
    once = {name: value.clone() for name, value in student.backbone.state_dict().items()}
    round_weights(student, torch.from_numpy(calibrated.pictures))
    assert all(torch.equal(value, once[name]) for name, value in student.backbone.state_dict().items())


def test_a_step_has_four_bits_and_is_found_again() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4000, 9) * torch.exp(3 * torch.randn(4000, 1))
    rounded = _rounded(weight[None], None)[0]
    steps = weight_steps(rounded)
    assert set((torch.frexp(steps).mantissa * 16).tolist()) == set(range(8, 16))
    levels = rounded / steps[:, None]
    assert torch.equal(levels, levels.round())
    assert levels.abs().amax(1).min() >= 113
    assert levels.abs().max() == 127
    assert ((rounded - weight).abs() <= 0.501 * steps[:, None]).all()
