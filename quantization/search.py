"""The fewest layers in full precision with which the int8 graph gives a wanted share of the student's tokens.

A tensor is rounded as long as the layer that makes it or one that reads it is int8, so what keeping a layer brings
depends on its neighbours. Two orders are tried: by the tokens that each layer costs alone, and by those that it costs
on top of the layers before it. By bisection the shortest head of either is found that suffices when it is kept. From
the shorter of the two, each layer, the least costly first, is made int8 again if the share still holds. Every trial
corrects the biases anew. What is counted is layers; that no smaller set suffices is not proven.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quantization.bias import BiasCorrection
from quantization.calibration import Calibration
from quantization.sensitivity import Row
from quantization.simulation import Simulation, agreement, analyse


@dataclass(frozen=True, eq=False)
class Trial:
    """A calibration that keeps some layers, and the share of tokens that its graph has in common with the student."""

    calibration: Calibration
    agreement: float


def search(
    simulation: Simulation,
    calibration: Calibration,
    rows: Sequence[Row],
    share: float,
    seen: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    progress: Callable[[Trial], None] = lambda trial: None,
) -> Trial:
    """Keep layers until the share is reached.

    Args:
        calibration: with biases if they are to be corrected; what it keeps is forgotten.
        rows: the sensitivity of every layer.
        share: of tokens equal to full precision, 0..1.
        seen: crops uint8 [N, 128, 128, 3] that biases are corrected with.
        held_out: crops that the share is taken over.
        progress: told of every trial.

    Returns:
        A trial that reaches the share. It may keep every layer: then no int8 is left.
    """
    simulation.use(())
    full = analyse(simulation.encoder, held_out)
    correction = BiasCorrection(simulation, seen) if calibration.biases else None

    def attempt(kept: Sequence[str]) -> Trial:
        int8 = [name for name in simulation.names if name not in kept]
        biases = correction.shifts(int8) if correction else {}
        simulation.use(int8, biases)
        ordered = tuple(name for name in simulation.names if name in kept)
        trial = Trial(
            replace(calibration, biases=biases, kept=ordered),
            agreement(full, analyse(simulation.encoder, held_out)),
        )
        progress(trial)
        return trial

    alone = {row.layer: row.alone.tokens for row in rows}
    before = [0.0, *(row.so_far.tokens for row in rows)]
    on_top = {row.layer: row.so_far.tokens - others for row, others in zip(rows, before, strict=False)}
    orders = [sorted(costs, key=costs.__getitem__, reverse=True) for costs in (on_top, alone)]
    nothing = attempt(())
    if nothing.agreement >= share:
        return nothing
    everything = attempt(simulation.names)
    best = min((_shortest(order, everything, attempt, share) for order in orders), key=_kept)
    for layer in sorted(best.calibration.kept, key=alone.__getitem__):
        trial = attempt([name for name in best.calibration.kept if name != layer])
        if trial.agreement >= share:
            best = trial
    return best


def _shortest(
    order: Sequence[str], everything: Trial, attempt: Callable[[Sequence[str]], Trial], share: float
) -> Trial:
    """By bisection, the trial with the fewest first layers of `order` kept that reaches the share; or `everything`."""
    best, too_few, enough = everything, 0, len(order)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        trial = attempt(order[:middle])
        if trial.agreement >= share:
            best, enough = trial, middle
        else:
            too_few = middle
    return best


def _kept(trial: Trial) -> int:
    return len(trial.calibration.kept)
