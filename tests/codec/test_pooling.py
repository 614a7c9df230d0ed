import torch

from edge_stscq.codec.pooling import RegionalPooling, place_regions


def test_regions_are_finer_at_the_features_of_a_face() -> None:
    """Regions are finer at the features of a face than at the border."""
    centers, widths = place_regions(32, adaptive=True)
    inner = ((centers - torch.tensor([0.5, 0.6])).abs() < 0.25).all(1)
    assert float(widths[inner].mean()) < 0.7 * float(widths[~inner].mean())
    flat_centers, _ = place_regions(32, adaptive=False)
    flat_inner = ((flat_centers - torch.tensor([0.5, 0.6])).abs() < 0.25).all(1)
    assert int(inner.sum()) > int(flat_inner.sum())


def test_placement_is_deterministic_and_inside_the_crop() -> None:
    first, second = place_regions(24, True), place_regions(24, True)
    assert torch.equal(first[0], second[0])
    assert bool(((first[0] > 0) & (first[0] < 1)).all())


def test_pooling_is_a_weighted_mean_that_follows_its_region() -> None:
    pooling = RegionalPooling(12, adaptive=True)
    constant = torch.full((2, 3, 16, 16), 5.0)
    torch.testing.assert_close(pooling.pool(constant), torch.full((2, 12, 3), 5.0))
    ramp = ((torch.arange(16) + 0.5) / 16).expand(1, 1, 16, 16)
    inside = (pooling.centres[:, 0] > 0.25) & (pooling.centres[:, 0] < 0.75)
    difference = (pooling.pool(ramp)[0, :, 0] - pooling.centres[:, 0]).detach()
    assert float(difference[inside].abs().max()) < 0.05


def test_regions_learn_only_when_adaptive() -> None:
    features = torch.randn(1, 2, 16, 16)
    learned = RegionalPooling(4, adaptive=True)
    learned.pool(features).sum().backward()
    assert learned.centres.grad is not None
    assert float(learned.centres.grad.abs().sum()) > 0
    assert not RegionalPooling(4, adaptive=False).centres.requires_grad
