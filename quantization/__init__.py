"""int8 for the device: calibrated once on real faces, the quantised graph is rebuilt from that anywhere."""

from quantization.calibration import Calibration, backbone_sha256
from quantization.equalize import equalize
from quantization.graph import (
    calibrate,
    captured_graph,
    keep_layers,
    quantized_encoder,
    weight_only_encoder,
)
from quantization.precision import CapturedEncoder, capture, run_graph
from quantization.ranges import OBSERVERS, Observer
from quantization.rounding import round_weights
from quantization.search import Trial, search
from quantization.sensitivity import Loss, Row, sensitivity
from quantization.simulation import Simulation, agreement, analyse, sqnr
from quantization.weights import WEIGHT_ONLY

__all__ = [
    "OBSERVERS",
    "WEIGHT_ONLY",
    "Calibration",
    "CapturedEncoder",
    "Loss",
    "Observer",
    "Row",
    "Simulation",
    "Trial",
    "agreement",
    "analyse",
    "backbone_sha256",
    "calibrate",
    "capture",
    "captured_graph",
    "equalize",
    "keep_layers",
    "quantized_encoder",
    "round_weights",
    "run_graph",
    "search",
    "sensitivity",
    "sqnr",
    "weight_only_encoder",
]
