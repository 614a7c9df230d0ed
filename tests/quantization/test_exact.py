"""Sums that no order changes, and so one answer on every runtime."""

import copy
from typing import Any

import pytest
import torch
from torch.fx import GraphModule, Interpreter, Node

from edge_stscq.codec.encoder import EdgeEncoder, normalize_image
from edge_stscq.codec.store import round_as_stored
from quantization import calibrate, equalize, keep_layers, quantized_encoder, round_weights
from quantization.observers import LAYERS
from tests.support.models.calibrated_model import Calibrated

KEPT = ("identity.features.0", "identity.features.2", "identity.features.4", "spatial.8", "spatial.10")


@pytest.fixture(scope="module")
def mixed(calibrated: Calibrated) -> EdgeEncoder:
    """The tiny student as `quantize` leaves it, with some layers in float32."""
    student = copy.deepcopy(calibrated.student).requires_grad_(False)
    equalize(student, torch.from_numpy(calibrated.pictures))
    round_weights(student, torch.from_numpy(calibrated.pictures))
    round_as_stored(student)
    calibration = keep_layers(student, calibrate(student, calibrated.pictures), KEPT, calibrated.pictures)
    return quantized_encoder(student, calibration)


class _Sums(Interpreter):
    """Runs a graph and compares every convolution with itself in double precision."""

    def __init__(self, graph: GraphModule) -> None:
        super().__init__(graph)
        self.exact: dict[str, bool] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.target in LAYERS:
            args, _ = self.fetch_args_kwargs_from_env(n)
            doubled = [a.double() if isinstance(a, torch.Tensor) else a for a in args]
            self.exact[n.name] = torch.equal(n.target(*doubled), result.double())  # type: ignore[operator]
        return result


def test_every_sum_is_exact(calibrated: Calibrated, mixed: EdgeEncoder) -> None:
    """But for the last layers: nothing is rounded to int8 behind a float32 one."""
    sums = _Sums(mixed.backbone)
    sums.run(normalize_image(torch.from_numpy(calibrated.pictures)))
    assert len(sums.exact) == 34
    wrong = [name for name, exact in sums.exact.items() if not exact]
    assert wrong in ([], [list(sums.exact)[-1]])


def test_a_student_as_trained_is_not_exact(calibrated: Calibrated) -> None:
    """The test above could fail: without the grid, sums depend on their order."""
    sums = _Sums(quantized_encoder(calibrated.student, calibrated.calibration).backbone)
    biased = {name: value + 0.1 for name, value in sums.module.state_dict().items() if name.endswith("bias")}
    sums.module.load_state_dict(biased, strict=False)
    sums.run(normalize_image(torch.from_numpy(calibrated.pictures)))
    assert not all(sums.exact.values())
