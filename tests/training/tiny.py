"""A codec small enough to train in a test."""

from edge_stscq.codec.config import CodecConfig, LayerConfig

_LAYERS = tuple(
    LayerConfig(name=name, identity=2, spatial=2, identity_dims=4) for name in ("basic", "middle", "enhanced")
)
CODEC = CodecConfig(
    name="x", groups=2, entries=8, dim=4, layers=_LAYERS, teacher_width=16,
    student_width=16, student_trunk=(8,) * 6, decoder_channels=(16, 16, 8, 8), style_dim=16,
)  # fmt: skip
