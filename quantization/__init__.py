"""int8 for the device: ranges are calibrated once on real faces, the quantised graph is rebuilt from them anywhere."""

from quantization.calibration import Calibration, backbone_sha256
from quantization.equalise import equalise
from quantization.graph import SCHEME, calibrate, captured_graph, quantized_encoder, quantized_graph

__all__ = [
    "SCHEME",
    "Calibration",
    "backbone_sha256",
    "calibrate",
    "captured_graph",
    "equalise",
    "quantized_encoder",
    "quantized_graph",
]
