"""The graphs that are exported: full precision, or int8 by torchao's PT2E flow.

Only the backbone becomes int8. It is captured, quantised and put back as a module of its own, so that everything after
it (pooling, projections, router, codebook search) stays in float32 whatever its operators are. Weights are int8 per
output channel, symmetric; activations int8 per tensor, affine.

Captured graphs have no avoidable work in them: what depends on parameters only (pooling windows, say) is folded.
"""

import copy
import hashlib
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram

from edge_stscq.codec.config import CROP
from edge_stscq.codec.encoder import EdgeEncoder, normalise_image
from edge_stscq.errors import EdgeError, require
from quantization.calibration import Calibration, backbone_sha256
from quantization.fold import fold_constants
from quantization.observers import load_ranges, measured_ranges, prepare
from quantization.quiet import quiet

SCHEME = "static int8: backbone only, weights per channel symmetric, activations per tensor affine"
_BATCH = 8
"""Pictures observed at once; the last batch is filled up with the first pictures."""


def calibrate(
    encoder: EdgeEncoder, images: Iterable[NDArray[np.uint8]], progress: Callable[[int], None] = lambda pictures: None
) -> Calibration:
    """Measure the ranges of the backbone's activations.

    Args:
        encoder: the student, in eval mode.
        images: crops uint8 [128, 128, 3] in RGB; at least 300 faces of all kinds are wanted.
        progress: told how many more pictures were looked at.

    Raises:
        EdgeError: there are no pictures, or torchao and ExecuTorch are not installed.
    """
    pictures = list(images)
    if not pictures:
        raise EdgeError("no pictures to calibrate with; give --faces a folder or .tar of face crops")
    faces = np.stack(pictures)
    with quiet(), torch.no_grad():
        prepared = prepare(encoder.backbone, _backbone_input(0).expand(_BATCH, -1, -1, -1), histograms=True)
        for start in range(0, len(faces), _BATCH):
            batch = faces.take(range(start, start + _BATCH), axis=0, mode="wrap")
            prepared(normalise_image(torch.from_numpy(batch)))
            progress(min(_BATCH, len(faces) - start))
        ranges = measured_ranges(prepared, _backbone_input(0).min().item(), _backbone_input(255).max().item())
    return Calibration(
        ranges, len(faces), hashlib.sha256(faces.tobytes()).hexdigest(), backbone_sha256(encoder.backbone)
    )


def captured_graph(encoder: EdgeEncoder) -> ExportedProgram:
    """Capture an encoder, int8 or not: uint8 [1, 128, 128, 3] -> (group int32 [1], tokens int32 [1, T])."""
    image = _picture(0)
    with quiet(), torch.no_grad():
        captured = torch.export.export(encoder, (image,), strict=False).module()
        fold_constants(captured)
        return torch.export.export(captured, (image,), strict=False)


def quantized_encoder(encoder: EdgeEncoder, calibration: Calibration) -> EdgeEncoder:
    """The encoder with an int8 backbone, for one picture at a time; `encoder` itself is left as it is.

    Raises:
        EdgeError: the calibration is of another student, or torchao and ExecuTorch are not installed.
    """
    calibration.check(backbone_sha256(encoder.backbone))
    with quiet(), torch.no_grad():
        prepared = prepare(encoder.backbone, _backbone_input(0), histograms=False)
        load_ranges(prepared, calibration)
        backbone = require("torchao.quantization.pt2e.quantize_pt2e", "executorch").convert_pt2e(prepared)
        quantized = copy.copy(encoder)
        quantized._modules = encoder._modules | {"backbone": backbone}
    return quantized


def quantized_graph(encoder: EdgeEncoder, calibration: Calibration) -> ExportedProgram:
    """`captured_graph` of `quantized_encoder`; `.module()` of it is callable."""
    return captured_graph(quantized_encoder(encoder, calibration))


def _picture(value: int) -> Tensor:
    return torch.full((1, CROP, CROP, 3), value, dtype=torch.uint8)


def _backbone_input(value: int) -> Tensor:
    return normalise_image(_picture(value))
