"""Sensitivity: what each layer costs when it is int8, measured where it counts, in token vectors and tokens.

*Alone*: this layer is int8 (its input, weight and output are rounded) and everything else is float. *So far*: all
layers up to this one in graph order are int8, with their corrected biases; the last row is the int8 graph. The identity
trunk and the spatial network stand side by side, so `so far` first grows through the one and then through the other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_stscq.codec.encoder import Analysis
from quantization.calibration import Calibration
from quantization.simulation import Simulation, agreement, analyse, sqnr


@dataclass(frozen=True)
class Loss:
    """Cost of int8 against full precision.

    Attributes:
        sqnr: signal to quantisation noise of the token vectors in dB; None without noise.
        tokens: share of tokens that change, 0..1.
    """

    sqnr: float | None
    tokens: float


@dataclass(frozen=True)
class Row:
    """One layer: `macs` are multiplications for one picture."""

    layer: str
    kind: str
    macs: int
    alone: Loss
    so_far: Loss


def sensitivity(
    simulation: Simulation,
    calibration: Calibration,
    images: NDArray[np.uint8],
    progress: Callable[[int], None] = lambda layers: None,
) -> list[Row]:
    """Measure all layers in graph order; layers that the calibration keeps count as float in `so_far`.

    Args:
        images: crops uint8 [N, 128, 128, 3], best not those that were calibrated with.
        progress: told how many more layers were measured.
    """
    simulation.use(())
    full = analyse(simulation.encoder, images)
    rows, so_far = [], []
    for layer in simulation.layers:
        simulation.use([layer.name])
        alone = _loss(full, analyse(simulation.encoder, images))
        so_far.append(layer.name)
        simulation.use(
            [name for name in so_far if name not in calibration.kept],
            {name: calibration.biases[name] for name in so_far} if calibration.biases else None,
        )
        rows.append(Row(layer.name, layer.kind, layer.macs, alone, _loss(full, analyse(simulation.encoder, images))))
        progress(1)
    return rows


def _loss(full: Analysis, other: Analysis) -> Loss:
    return Loss(sqnr(full.z, other.z), 1 - agreement(full, other))
