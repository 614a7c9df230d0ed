import torch
from torch.nn import functional

from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.training.losses import Discriminator, Recogniser, least_squares, perceptual


def test_the_recogniser_sees_what_the_trunk_sees() -> None:
    torch.manual_seed(0)
    trunk = IdentityTrunk((8,) * 6).eval()
    picture = torch.rand(2, 3, 128, 128) * 2 - 1
    recogniser = Recogniser(trunk)
    seen = recogniser(picture)
    expected = functional.normalize(trunk(picture[..., 8:-8, 8:-8]))
    torch.testing.assert_close(seen.embedding, expected, atol=1e-4, rtol=1e-3)
    for a, b in zip(seen.features, recogniser.features(picture), strict=True):
        torch.testing.assert_close(a, b)


def test_perceptual_distance_is_zero_for_the_same_picture_and_grows() -> None:
    torch.manual_seed(0)
    recogniser = Recogniser(IdentityTrunk((8,) * 6))
    picture = torch.rand(2, 3, 64, 64) * 2 - 1
    here = recogniser.features(picture)
    near = recogniser.features(picture + 0.05 * torch.randn_like(picture))
    far = recogniser.features(torch.rand(2, 3, 64, 64) * 2 - 1)
    assert float(perceptual(here, here).max()) == 0
    assert bool((perceptual(near, here) < perceptual(far, here)).all())


def test_gradients_reach_the_picture_and_not_the_recogniser() -> None:
    recogniser = Recogniser(IdentityTrunk((8,) * 6))
    picture = torch.rand(1, 3, 64, 64, requires_grad=True)
    recogniser(picture).embedding.sum().backward()
    assert picture.grad is not None
    assert all(p.grad is None for p in recogniser.parameters())


def test_least_squares_rewards_the_right_side() -> None:
    ones, zeros = torch.ones(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    assert least_squares(ones, True) == least_squares(zeros, False) == 0
    assert least_squares(ones, False) == least_squares(zeros, True) == 1
    assert Discriminator()(torch.rand(1, 3, 64, 64)).shape == (1, 1, 8, 8)
