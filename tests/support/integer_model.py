"""Complete model of random weights whose student is made for integers, small enough to export in seconds."""

from pathlib import Path

from edge_stscq.codec.config import CodecConfig, ConvConfig, LayerConfig
from edge_stscq.codec.store import create


def integer_config(groups: int = 2) -> CodecConfig:
    """Two layers; the network ends at 7 px."""
    layers = (
        LayerConfig(name="basic", identity=2, spatial=0, identity_dims=8, entries=12),
        LayerConfig(name="middle", identity=2, spatial=3, identity_dims=8, spatial_dims=9),
    )
    convolutions = ((8, 3, 2, False), (8, 3, 2, True), (16, 1, 2, False), (16, 3, 2, True))
    student = tuple(
        ConvConfig(outputs=outputs, kernel=kernel, stride=stride, depthwise=depthwise)
        for outputs, kernel, stride, depthwise in convolutions
    )
    return CodecConfig(
        name="tiny-integer", groups=groups, entries=16, dim=4, layers=layers, group_rule="nearest",
        student_layers=student, decoder_channels=(16, 16, 8, 8), style_dim=16,
    )  # fmt: skip


def write_integer_model(folder: Path, groups: int = 2) -> Path:
    """Write the model folder; drawn pictures reach both of its two groups."""
    create(folder, integer_config(groups))
    return folder
