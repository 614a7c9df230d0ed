"""Complete model of random weights whose student is made for integers, small enough to export in seconds."""

from pathlib import Path

from edge_stscq.codec.store import create
from edge_stscq.config.codec import CodecConfig, ConvConfig, LayerConfig


def integer_config(groups: int = 2) -> CodecConfig:
    """Two layers; the network ends at 7 px."""
    layers = (
        LayerConfig(name="basic", identity=2, spatial=0, identity_dims=8, entries=12),
        LayerConfig(name="middle", identity=2, spatial=3, identity_dims=8, spatial_dims=9),
    )
    student = (
        ConvConfig(outputs=8, kernel=3, stride=2), ConvConfig(outputs=8, kernel=3, stride=2, depthwise=True),
        ConvConfig(outputs=16, kernel=1, stride=2), ConvConfig(outputs=16, kernel=3, stride=2, depthwise=True),
    )  # fmt: skip
    return CodecConfig(
        name="tiny-integer", groups=groups, entries=16, dim=4, layers=layers, group_rule="nearest",
        student_layers=student, decoder_channels=(16, 16, 8, 8), style_dim=16,
    )  # fmt: skip


def write_integer_model(folder: Path, groups: int = 2) -> Path:
    """Write the model folder; drawn pictures reach both of its two groups."""
    create(folder, integer_config(groups))
    return folder
