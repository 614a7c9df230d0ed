import torch
from torch import nn

from edge_stscq.codec.encoder import EdgeEncoder, normalize_image, student, teacher
from edge_stscq.config.codec import CodecConfig, LayerConfig

LAYERS = tuple(
    LayerConfig(name=name, identity=2, spatial=3, identity_dims=6) for name in ("basic", "middle", "enhanced")
)


def config(**change: object) -> CodecConfig:
    values = {
        "name": "x", "groups": 3, "entries": 8, "dim": 4, "layers": LAYERS,
        "teacher_width": 16, "student_width": 48, "student_trunk": (8,) * 6,
    }  # fmt: skip
    return CodecConfig.model_validate(values | change)


def mmac(encoder: EdgeEncoder) -> float:
    """Million multiply-accumulates of convolutions and linear layers for one picture."""
    total = 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += module.weight.numel()

    hooks = [module.register_forward_hook(count) for module in encoder.modules()]
    encoder(torch.zeros(1, 128, 128, 3, dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    return total / 1e6


def test_integers_leave_and_analysis_agrees() -> None:
    torch.manual_seed(0)
    for rule in ("router", "nearest"):
        network = student(config(group_rule=rule)).eval()
        images = torch.randint(0, 256, (3, 128, 128, 3), dtype=torch.uint8)
        group, tokens = network(images)
        assert (group.dtype, tokens.dtype, tokens.shape) == (torch.int32, torch.int32, (3, 15))
        analysis = network.analyse(images)
        assert torch.equal(analysis.group, group)
        assert torch.equal(analysis.tokens, tokens)
        assert bool((analysis.margin >= 0).all())
        if rule == "nearest":
            assert torch.equal(network.codebooks.group_errors(analysis.z).argmin(1).int(), group)
        else:
            assert torch.equal(analysis.group_logits.argmax(1).int(), group)


def test_input_steps_are_exact_in_int8() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    assert torch.equal((normalize_image(levels)[0, 0] * 128).flatten(), torch.arange(256.0) - 128)


def test_identity_and_spatial_tokens_keep_their_places() -> None:
    network = student(config()).eval()
    embedding, features, image = torch.randn(2, 128), torch.randn(2, 32, 16, 16), torch.randn(2, 3, 128, 128)
    z = network.head(embedding, features, image)
    moved = network.head(embedding + torch.randn(2, 128), features, image)
    changed = (z != moved).any(-1).any(0)
    assert changed.tolist() == [True, True, False, False, False] * 3


def test_the_released_student_is_within_its_budget() -> None:
    released = config(
        groups=2, entries=256, dim=8,
        layers=(
            LayerConfig(name="basic", identity=16, spatial=0, identity_dims=64),
            LayerConfig(name="middle", identity=8, spatial=8, identity_dims=64),
            LayerConfig(name="enhanced", identity=0, spatial=32),
        ),
        teacher_width=96, student_width=96, student_trunk=(16, 32, 56, 128, 368, 704),
    )  # fmt: skip
    assert mmac(student(released).eval()) < 300
    assert mmac(teacher(released).eval()) > 600


def test_thumbnail_reaches_spatial_tokens_past_the_network() -> None:
    """A thumbnail reaches the spatial tokens without the network."""
    network = student(config(thumbnail=16)).eval()
    head = network.head
    picture = torch.randn(2, 3, 128, 128)
    torch.testing.assert_close(
        head.thumbnail(picture), nn.functional.interpolate(picture, size=16, mode="area").flatten(1)
    )
    assert head.pixels is not None
    with torch.no_grad():
        embedding, features = torch.randn(2, 128), torch.randn(2, 32, 16, 16)
        difference = head(embedding, features, picture) - head(embedding, features, torch.zeros_like(picture))
        expected = (head.thumbnail(picture) @ head.pixels).view(2, -1, network.config.dim)
    torch.testing.assert_close(difference[:, head.spatial_positions()], expected, atol=1e-4, rtol=1e-4)
    identity = [i for i in range(network.config.tokens) if i not in head.spatial_positions().tolist()]
    assert float(difference[:, identity].abs().max()) == 0
