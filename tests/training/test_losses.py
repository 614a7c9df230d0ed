import torch
from torch.nn import functional

from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.training.losses import (
    Discriminator,
    FrozenRecognizer,
    View,
    excess_total_variation,
    least_squares,
    perceptual_loss,
)


def test_the_recognizer_sees_what_the_trunk_sees() -> None:
    torch.manual_seed(0)
    trunk = IdentityTrunk((8,) * 6).eval()
    picture = torch.rand(2, 3, 128, 128) * 2 - 1
    recognizer = FrozenRecognizer(trunk)
    seen = recognizer(picture, View())
    expected = functional.normalize(trunk(picture[..., 8:-8, 8:-8]))
    torch.testing.assert_close(seen.embedding, expected, atol=1e-4, rtol=1e-3)
    for a, b in zip(seen.features, recognizer.features(picture, View()), strict=True):
        torch.testing.assert_close(a, b)


def test_perceptual_loss_grows_from_zero_with_difference() -> None:
    """Perceptual distance is zero for the same picture and grows."""
    torch.manual_seed(0)
    recognizer = FrozenRecognizer(IdentityTrunk((8,) * 6))
    picture = torch.rand(2, 3, 64, 64) * 2 - 1
    here, near, far = (
        recognizer.features(seen, View())
        for seen in (picture, picture + 0.05 * torch.randn_like(picture), torch.rand(2, 3, 64, 64) * 2 - 1)
    )
    assert float(perceptual_loss(here, here).max()) == 0
    assert bool((perceptual_loss(near, here) < perceptual_loss(far, here)).all())


def test_gradients_reach_the_picture_and_not_the_recognizer() -> None:
    recognizer = FrozenRecognizer(IdentityTrunk((8,) * 6))
    picture = torch.rand(1, 3, 64, 64, requires_grad=True)
    recognizer(picture, View()).embedding.sum().backward()
    assert picture.grad is not None
    assert all(p.grad is None for p in recognizer.parameters())


def test_a_plain_trunk_looks_too() -> None:
    trunk = IdentityTrunk((8,) * 6, plain=True)
    recognizer, picture = FrozenRecognizer(trunk), torch.rand(2, 3, 128, 128) * 2 - 1
    torch.testing.assert_close(
        recognizer(picture, View()).embedding, functional.normalize(trunk(picture[..., 8:-8, 8:-8])),
        atol=1e-5, rtol=1e-4,
    )  # fmt: skip
    assert [f.shape[-1] for f in recognizer.features(picture, View())] == [56, 56, 28]


def test_views_differ_and_a_coarse_one_sees_no_fine_pattern() -> None:
    torch.manual_seed(0)
    views = [View.draw() for _ in range(60)]
    assert {view.coarse for view in views} == {True, False}
    assert len({view.side for view in views}) > 10
    pattern = torch.ones(1, 3, 128, 128)
    pattern[..., ::2] = -1
    for view in views:
        seen = view.of(pattern)
        assert seen.shape == (1, 3, 112, 112)
        assert (float(seen.abs().max()) < 1e-6) == view.coarse


def test_roughness_counts_what_the_original_lacks() -> None:
    torch.manual_seed(0)
    smooth = torch.linspace(-1, 1, 64).expand(2, 3, 64, 64)
    noise = 0.1 * torch.randn(2, 1, 64, 64)
    assert float(excess_total_variation(smooth, smooth + noise).max()) < 1e-6
    grey, colored = smooth + noise, smooth + noise * torch.tensor([1.0, -1, 0]).view(3, 1, 1)
    assert float(excess_total_variation(grey, smooth).min()) > 0.1
    assert float(excess_total_variation(colored, grey).min()) > 0.05  # no more of brightness, but of colour


def test_least_squares_rewards_the_right_side() -> None:
    ones, zeros = torch.ones(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    assert least_squares(ones, True) == least_squares(zeros, False) == 0
    assert least_squares(ones, False) == least_squares(zeros, True) == 1
    assert Discriminator()(torch.rand(1, 3, 64, 64)).shape == (1, 1, 8, 8)
