"""Sensitivity finds the layer that was harmed, and the search keeps it.

That every target lowers what is left, int8 and float32 layers, `tests/targets/test_writer.py` shows.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from edge_stscq.errors import EdgeError
from quantization import (
    Calibration,
    Row,
    Simulation,
    agreement,
    analyse,
    calibrate,
    capture,
    keep_layers,
    quantized_encoder,
    search,
    sensitivity,
)
from quantization.bias import BiasCorrection
from tests.support.models.calibrated_model import Calibrated

pytestmark = pytest.mark.slow

HARMED = "spatial.4"


@pytest.fixture(scope="module")
def harmed(calibrated: Calibrated) -> Calibration:
    """A calibration in which the output of one layer has a range 64 times too wide."""
    ranges = dict(calibrated.calibration.ranges)
    ranges["relu_2"] = ranges["relu_2"] * np.float32(64)
    return replace(calibrated.calibration, ranges=ranges)


@pytest.fixture(scope="module")
def simulation(calibrated: Calibrated, harmed: Calibration) -> Simulation:
    return Simulation(calibrated.student, harmed)


@pytest.fixture(scope="module")
def rows(calibrated: Calibrated, harmed: Calibration, simulation: Simulation) -> list[Row]:
    return sensitivity(simulation, harmed, calibrated.pictures)


def test_the_harmed_layer_costs_most(rows: list[Row], simulation: Simulation) -> None:
    assert [row.layer for row in rows] == list(simulation.names)
    reader = "spatial.6"  # reads the same coarse tensor
    assert HARMED in {row.layer for row in sorted(rows, key=lambda row: row.alone.tokens)[-2:]}
    noisiest = sorted((row for row in rows if row.alone.sqnr is not None), key=lambda row: row.alone.sqnr or 0)
    assert {row.layer for row in noisiest[:2]} == {HARMED, reader}


def test_the_last_row_is_the_int8_graph(calibrated: Calibrated, harmed: Calibration, rows: list[Row]) -> None:
    full = analyse(calibrated.student, calibrated.pictures)
    int8 = analyse(quantized_encoder(calibrated.student, harmed), calibrated.pictures)
    assert 1 - rows[-1].so_far.tokens == pytest.approx(agreement(full, int8), abs=0.02)


def test_the_search_keeps_what_it_must(
    calibrated: Calibrated, harmed: Calibration, simulation: Simulation, rows: list[Row]
) -> None:
    """Both layers at the coarse tensor: then it is not rounded."""
    pictures, tried = calibrated.pictures, []
    everything = search(simulation, harmed, rows, 0, pictures, pictures, tried.append)
    assert everything.calibration.kept == ()
    assert len(tried) == 1
    needed = (HARMED, "spatial.6")
    int8 = [name for name in simulation.names if name not in needed]
    simulation.use(int8, BiasCorrection(simulation, pictures).shifts(int8))
    full = analyse(calibrated.student, pictures)
    share = (agreement(full, analyse(simulation.encoder, pictures)) + tried[0].agreement) / 2
    assert share > tried[0].agreement + 0.01
    found = search(simulation, harmed, rows, share, pictures, pictures)
    assert found.agreement >= share
    assert found.calibration.kept == needed
    mixed = quantized_encoder(calibrated.student, found.calibration)
    assert agreement(full, analyse(mixed, pictures)) == pytest.approx(found.agreement, abs=0.02)


@pytest.mark.parametrize("share", [1, 1.01])
def test_a_high_share_keeps_both_and_one_out_of_reach_everything(
    calibrated: Calibrated, harmed: Calibration, simulation: Simulation, rows: list[Row], share: float
) -> None:
    found = search(simulation, harmed, rows, share, calibrated.pictures, calibrated.pictures)
    assert found.agreement == 1
    assert {HARMED, "spatial.6"} <= set(found.calibration.kept)
    assert (len(found.calibration.kept) == len(rows)) == (share > 1)


def test_kept_layers_are_float_in_the_graph(calibrated: Calibrated) -> None:
    kept = ("identity.features.12", "spatial.2")
    program = capture(calibrated.student, "int8", replace(calibrated.calibration, kept=kept)).program
    weights = [n for n in program.graph.nodes if "aten.conv2d" in str(n.target)]
    floats = [n for n in weights if "dequantize" not in str(n.args[1].target)]
    assert (len(weights), len(floats)) == (33, 2)


def test_an_unknown_kept_layer_is_refused(calibrated: Calibrated) -> None:
    with pytest.raises(EdgeError, match=r"keeps spatial\.3, which the student does not have.*edge-stscq quantize"):
        quantized_encoder(calibrated.student, replace(calibrated.calibration, kept=("spatial.3",)))


def test_layers_are_kept_by_name(calibrated: Calibrated) -> None:
    student, whole = calibrated.student, calibrate(calibrated.student, calibrated.pictures)
    names = Simulation(student, whole).names
    kept = keep_layers(student, whole, [names[3], names[0]], calibrated.pictures)
    assert kept.kept == (names[0], names[3])
    assert not kept.biases[names[0]].any()  # nothing before the first layer is rounded
    assert whole.biases[names[0]].any()
    assert quantized_encoder(student, kept).analyse(torch.from_numpy(calibrated.pictures[:1])).tokens.shape[0] == 1
    with pytest.raises(EdgeError, match="no layer elsewhere"):
        keep_layers(student, whole, ["elsewhere"], calibrated.pictures)
