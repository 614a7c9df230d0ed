"""The graphs that are exported: full precision, int8 by torchao's PT2E flow, or float32 with int8 weights.

Only the backbone becomes int8. It is captured, quantised and put back as a module of its own, so that everything after
it (pooling, projections, router, codebook search) stays in float32 whatever its operators are. Weights are int8 per
output channel, symmetric; activations int8 per tensor, affine.

Captured graphs have no avoidable work in them: what depends on parameters only (pooling windows, say) is folded.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import ExportedProgram

from edge_stscq._quiet import silence_exporters
from edge_stscq.codec.encoder import EdgeEncoder, normalize_image
from edge_stscq.config.codec import CROP
from edge_stscq.errors import EdgeError, require
from quantization.bias import BiasCorrection
from quantization.calibration import Calibration, backbone_sha256
from quantization.exact import make_exact
from quantization.fold import fold_constants
from quantization.observers import capture, load, measured_ranges, prepare, watch
from quantization.ranges import Observer
from quantization.simulation import Simulation, with_backbone
from quantization.weights import hold_weights

_BATCH = 8
"""Pictures observed at once."""


def calibrate(
    encoder: EdgeEncoder,
    images: Iterable[NDArray[np.uint8]],
    progress: Callable[[int], None] = lambda pictures: None,
    *,
    observer: Observer = "mse",
    percentile: float = 99.99,
    correct_biases: bool = True,
) -> Calibration:
    """Measure the ranges of the backbone's activations, and how far int8 shifts the means of its layers.

    Args:
        encoder: the student, in eval mode.
        images: crops uint8 [128, 128, 3] in RGB; at least 300 faces of all kinds are wanted.
        progress: told how many more pictures were looked at.
        observer: how a range is chosen, see `quantization/ranges.py`.
        percentile: of the magnitudes, 0..100; for that observer alone.
        correct_biases: whether the shifts are measured, see `quantization/bias.py`.

    Raises:
        EdgeError: there are no pictures, or torchao and ExecuTorch are not installed.
    """
    pictures = list(images)
    if not pictures:
        raise EdgeError("no pictures to calibrate with; give --faces a folder or .tar of face crops")
    faces = np.stack(pictures)
    with silence_exporters(), torch.no_grad():
        prepared = prepare(encoder.backbone)
        watched = watch(prepared)
        for start in range(0, len(faces), _BATCH):
            batch = faces[start : start + _BATCH]
            prepared(normalize_image(torch.from_numpy(batch)))
            progress(len(batch))
        ranges = measured_ranges(watched, observer, percentile)
    calibration = Calibration(
        ranges, len(faces), hashlib.sha256(faces.tobytes()).hexdigest(), backbone_sha256(encoder.backbone),
        f"percentile {percentile:g}" if observer == "percentile" else observer,
    )  # fmt: skip
    if not correct_biases:
        return calibration
    simulation = Simulation(encoder, calibration)
    return replace(calibration, biases=BiasCorrection(simulation, faces).shifts(simulation.names))


def keep_layers(
    encoder: EdgeEncoder, calibration: Calibration, names: Collection[str], images: NDArray[np.uint8]
) -> Calibration:
    """The calibration with these layers, and no others, in full precision; biases are corrected anew.

    Args:
        images: crops uint8 [N, 128, 128, 3] that the calibration was made with.

    Raises:
        EdgeError: the student has no layer of such a name.
    """
    simulation = Simulation(encoder, calibration)
    if unknown := sorted(set(names) - set(simulation.names)):
        raise EdgeError(f"the student has no layer {unknown[0]}; `edge-stscq quantize --sensitivity` names them all")
    kept = tuple(name for name in simulation.names if name in names)
    int8 = [name for name in simulation.names if name not in kept]
    biases = BiasCorrection(simulation, images).shifts(int8) if calibration.biases else {}
    return replace(calibration, kept=kept, biases=biases)


def weight_only_encoder(encoder: EdgeEncoder, calibration: Calibration) -> EdgeEncoder:
    """The encoder with weights held as int8 and float32 arithmetic; `encoder` itself is left as it is.

    Raises:
        EdgeError: the calibration is of another student.
    """
    calibration.check(backbone_sha256(encoder.backbone))
    with silence_exporters(), torch.no_grad():
        graph = capture(encoder.backbone)
        make_exact(graph, calibration)
        hold_weights(graph)
    return with_backbone(encoder, graph)


def captured_graph(encoder: nn.Module) -> ExportedProgram:
    """Capture an encoder, int8 or not: uint8 [1, 128, 128, 3] -> (group int32 [1], tokens int32 [1, T])."""
    image = torch.zeros(1, CROP, CROP, 3, dtype=torch.uint8)
    with silence_exporters(), torch.no_grad():
        captured = torch.export.export(encoder, (image,), strict=False).module()
        fold_constants(captured)
        return torch.export.export(captured, (image,), strict=False)


def quantized_encoder(encoder: EdgeEncoder, calibration: Calibration) -> EdgeEncoder:
    """The encoder with an int8 backbone but for the kept layers; `encoder` itself is left as it is.

    Raises:
        EdgeError: the calibration is of another student, or torchao and ExecuTorch are not installed.
    """
    calibration.check(backbone_sha256(encoder.backbone))
    with silence_exporters(), torch.no_grad():
        prepared = prepare(encoder.backbone, calibration.kept)
        load(prepared, calibration)
        make_exact(prepared, calibration)
        backbone = require("torchao.quantization.pt2e.quantize_pt2e", "executorch").convert_pt2e(prepared)
    return with_backbone(encoder, backbone)
