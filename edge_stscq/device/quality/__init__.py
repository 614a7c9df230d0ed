"""Quality of a detected face: what is measured, the limits, and the gate that judges by them."""

from edge_stscq.device.quality.gate import Judgement, QualityGate
from edge_stscq.device.quality.limits import Limits
from edge_stscq.device.quality.verdict import Verdict

__all__ = ["Judgement", "Limits", "QualityGate", "Verdict"]
