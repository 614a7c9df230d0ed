"""A codec with a student made for integers, small enough to train in a test, and what it is trained on."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.config.codec import CodecConfig, ConvConfig, LayerConfig

LAYERS = (
    LayerConfig(name="basic", identity=8, spatial=0, identity_dims=64, entries=3),
    LayerConfig(name="middle", identity=8, spatial=2, identity_dims=64, spatial_dims=4),
    LayerConfig(name="fine", identity=0, spatial=2, spatial_dims=4),
)
CODEC = CodecConfig(
    name="integer", groups=2, entries=4, dim=8, group_rule="nearest", layers=LAYERS, decoder_channels=(16, 16, 8, 8),
    style_dim=16,
    student_layers=(
        ConvConfig(outputs=8, stride=2), ConvConfig(outputs=8, stride=2), ConvConfig(outputs=8, stride=2),
        ConvConfig(outputs=8, stride=2, depthwise=True), ConvConfig(outputs=16, kernel=1),
        ConvConfig(outputs=16, depthwise=True), ConvConfig(outputs=12, kernel=1),
    ),
)  # fmt: skip
FLOAT = CodecConfig(
    name="float", groups=2, entries=8, dim=4, teacher_width=16, student_width=16, student_trunk=(8, 8, 8, 8, 8, 16),
    layers=tuple(LayerConfig(name=name, identity=2, spatial=2, identity_dims=4) for name in ("one", "two", "three")),
    decoder_channels=(16, 16, 8, 8), style_dim=16,
)  # fmt: skip
"""A model of the earlier kind: the last four layers of its student's trunk have the shapes of `CODEC`'s."""
RECIPE = """
faces = ["pictures"]
typical = ["typical"]
preview = ["preview"]
recogniser = "sface.safetensors"
latents = 100
average = 0.9
completion = 8

[codec]
name = "integer"
groups = 2
entries = 4
dim = 8
group_rule = "nearest"
layers = [
    { name = "basic", identity = 8, spatial = 0, identity_dims = 64, entries = 3 },
    { name = "middle", identity = 8, spatial = 2, identity_dims = 64, spatial_dims = 4 },
    { name = "fine", identity = 0, spatial = 2, spatial_dims = 4 },
]
student_layers = [
    { outputs = 8, stride = 2 }, { outputs = 8, stride = 2 }, { outputs = 8, stride = 2 },
    { outputs = 8, stride = 2, depthwise = true }, { outputs = 16, kernel = 1 },
    { outputs = 16, depthwise = true }, { outputs = 12, kernel = 1 },
]
decoder_channels = [16, 16, 8, 8]
style_dim = 16

[closed_form]
iterations = 2

[student]
steps = 4
batch = 4
front = 2

[decoder]
steps = 4
batch = 4
noise = 0.05
critic = { weight = 0.1, begin = 0.5 }
"""


def write_recognizer(path: Path) -> None:
    """A recognizer of random weights in the layout of SFace's file."""
    torch.manual_seed(0)
    trunk = IdentityTrunk()
    modules = [*trunk.features, trunk.features_norm, None, trunk.project, trunk.embedding_norm]
    state = {f"body.{i}.{k}": v for i, m in enumerate(modules) if m is not None for k, v in m.state_dict().items()}
    save_file(state, path)


def write_data(folder: Path, pictures: Path) -> Path:
    """Fill an empty folder with `RECIPE` as `recipe.toml` and all that it names, made of 24 pictures."""
    (folder / "pictures").symlink_to(pictures)
    inside = {f"{n:02d}.png": [[30 + n, 20], [130, 22], [128, 160], [28, 158]] for n in range(16)}
    (folder / "pictures.inside.json").write_text(json.dumps(inside | {"23.png": None}))
    for name, index in (("typical", 1), ("preview", 0)):
        (folder / name).mkdir()
        (folder / name / f"{index:02d}.png").symlink_to(pictures / f"{index:02d}.png")
        (folder / f"{name}.inside.json").write_text(json.dumps({f"{index:02d}.png": inside[f"{index:02d}.png"]}))
    (folder / "recipe.toml").write_text(RECIPE)
    write_recognizer(folder / "sface.safetensors")
    return folder
