"""The simulation stands for the converted graph, and biases corrected in it hold there."""

from dataclasses import replace

import pytest
import torch

from edge_stscq.codec.store import load_student
from quantization import Simulation, agreement, analyse, calibrate, quantized_encoder, sqnr
from quantization.bias import BiasCorrection, _Means
from quantization.observers import observed, prepare
from tests.support.models.calibrated_model import Calibrated

KEPT = ("identity.features.4", "identity.project", "spatial.0", "spatial.10")


@pytest.fixture(scope="module")
def simulation(calibrated: Calibrated) -> Simulation:
    return Simulation(calibrated.student, calibrated.calibration)


@pytest.mark.parametrize("kept", [(), KEPT])
def test_computes_what_the_converted_graph_computes(
    calibrated: Calibrated, simulation: Simulation, kept: tuple[str, ...]
) -> None:
    converted = quantized_encoder(calibrated.student, replace(calibrated.calibration, kept=kept))
    simulation.use([name for name in simulation.names if name not in kept], calibrated.calibration.biases)
    expected, found = (analyse(encoder, calibrated.pictures) for encoder in (converted, simulation.encoder))
    assert agreement(expected, found) > 0.98
    noise = sqnr(expected.z, found.z)
    assert noise is None or noise > 60


def test_without_int8_it_is_the_student(calibrated: Calibrated, simulation: Simulation) -> None:
    simulation.use(())
    full, found = (analyse(encoder, calibrated.pictures) for encoder in (calibrated.student, simulation.encoder))
    torch.testing.assert_close(found.z, full.z)
    assert agreement(full, found) > 0.98


def test_layers_are_the_students(simulation: Simulation) -> None:
    layers = {layer.name: layer for layer in simulation.layers}
    assert len(layers) == 34
    assert layers["identity.features.2"].kind == "3x3 depthwise 8"
    assert layers["identity.features.2"].macs == 8 * 112 * 112 * 9
    assert layers["identity.project"].kind == f"linear {8 * 7 * 7} > 128"
    assert layers["identity.project"].macs == 8 * 7 * 7 * 128
    assert layers["spatial.0"].macs == 3 * 8 * 9 * 64 * 64


def test_corrected_biases_restore_the_means_of_every_layer(calibrated: Calibrated, simulation: Simulation) -> None:
    correction = BiasCorrection(simulation, calibrated.pictures)
    shifts = correction.shifts(simulation.names)

    def worst(**biases: object) -> float:
        simulation.use(simulation.names, **biases)  # type: ignore[arg-type]
        with torch.no_grad():
            (found := _Means(simulation, None)).run(correction._faces)
        return max(float((found.means[n] - correction._wanted[n]).abs().max()) for n in simulation.names)

    assert worst(biases=shifts) < 0.1 * worst()  # they are rounded to the grid of integer sums


def test_bias_correction_brings_int8_closer_to_the_student(calibrated: Calibrated) -> None:
    """Correction leaves the student alone and int8 closer to it."""
    student, pictures = calibrated.student, calibrated.pictures
    plain = calibrate(student, pictures, correct_biases=False)
    assert not plain.biases
    assert calibrated.calibration.biases
    full = analyse(student, pictures)
    noise = [
        float((analyse(quantized_encoder(student, c), pictures).z - full.z).mean(0).square().sum())
        for c in (plain, calibrated.calibration)
    ]
    assert noise[1] < 0.2 * noise[0]
    untouched = load_student(calibrated.folder)
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, untouched.state_dict()[name])


class _Joined(torch.nn.Module):
    """Two branches that are concatenated, reshaped and convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(3, 4, 3, padding=1)
        self.c = torch.nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.cat([self.a(x).relu(), self.b(x).relu()], 1)).flatten(1)  # type: ignore[no-any-return]


def test_what_is_joined_shares_a_range() -> None:
    shared = [[n.name for n in item.nodes] for item in observed(prepare(_Joined().eval())) if len(item.nodes) > 1]
    assert shared == [["relu", "relu_1", "cat"], ["conv2d_2", "flatten"]]


def test_the_student_shares_nothing_but_its_flatten(calibrated: Calibrated) -> None:
    """It has no residual and no concatenation."""
    prepared = prepare(calibrated.student.backbone)
    assert [len(item.nodes) for item in observed(prepared) if len(item.nodes) > 1] == [2]
    assert not [n for n in prepared.graph.nodes if "aten.add" in str(n.target) or "aten.cat" in str(n.target)]
