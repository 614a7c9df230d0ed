"""What an artefact costs in verification accuracy: the same pairs, judged from its codes and from full precision's."""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.lfw import Judgement
from edge_stscq.evaluation.verification import Verification


class AccuracyRow(BaseModel):
    """One layer, compared in one way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str
    compared: str = Field(description='"compressed domain", or "decoded" and the recogniser that compared the pictures')
    full: Verification = Field(description="from full-precision codes")
    device: Verification = Field(description="from the artefact's codes")
    lost: float = Field(description="accuracy of full precision minus the artefact's; negative where it gains")
    lost_error: float | None = Field(
        default=None, description="standard error of `lost` over the folds, each judged both ways; null if not known"
    )


class Accuracy(BaseModel):
    """Verification accuracy of one artefact beside full precision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str
    rows: tuple[AccuracyRow, ...]


def accuracy(full: Judgement, device: Judgement) -> Accuracy:
    """Two judgements of the same pairs by the same recognisers, side by side.

    Raises:
        EdgeError: there is nothing to verify by, neither identity tokens nor a recogniser.
    """
    rows = []
    for ours, theirs in zip(full.layers, device.layers, strict=True):
        compared = [("compressed domain", ours.compressed, theirs.compressed)]
        compared += [(f"decoded, {name}", ours.decoded[name], theirs.decoded[name]) for name in ours.decoded]
        rows += [_row(ours.name, how, first, second) for how, first, second in compared if first and second]
    if not rows:
        raise EdgeError("the model has no identity tokens to verify by; give a judge with --recognisers")
    return Accuracy(protocol=full.protocol, rows=tuple(rows))


def _row(layer: str, compared: str, full: Verification, device: Verification) -> AccuracyRow:
    lost = round(full.accuracy - device.accuracy, 9)  # a whole number of pairs, without the noise of the subtraction
    difference = np.subtract(full.by_fold, device.by_fold)
    error = float(np.std(difference, ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else None
    return AccuracyRow(layer=layer, compared=compared, full=full, device=device, lost=lost, lost_error=error)
