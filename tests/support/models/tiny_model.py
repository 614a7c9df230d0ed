"""Complete model of random weights, small enough to export in seconds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from edge_stscq.codec.store import create, load_student, save_student
from edge_stscq.config.codec import CodecConfig, LayerConfig
from targets.golden import candidates


def write_tiny_model(folder: Path, names: Sequence[str]) -> Path:
    """Write the model folder, with these layers; its student uses both groups."""
    layers = tuple(LayerConfig(name=name, identity=2, spatial=2, identity_dims=8) for name in names)
    config = CodecConfig(
        name="tiny", groups=2, entries=16, dim=4, layers=layers, thumbnail=16,
        teacher_width=16, student_width=16, student_trunk=(8,) * 6, decoder_channels=(16, 16, 8, 8), style_dim=16,
    )  # fmt: skip
    create(folder, config)
    student = load_student(folder)
    logits = student.analyse(torch.from_numpy(np.stack(candidates(32)))).group_logits
    student.router.layers[-1].bias -= logits.median(0).values
    save_student(folder, student)
    return folder
