import torch

from edge_stscq.training.init.kmeans import fit_codebooks, nearest, refit_codebooks


def error(books: torch.Tensor, z: torch.Tensor) -> float:
    chosen, _ = nearest(books, z)
    words = books[torch.arange(z.shape[1]), chosen]
    return float((z - words).square().mean())


def test_fit_codebooks_finds_clusters_of_each_position() -> None:
    generator = torch.Generator().manual_seed(0)
    centers = 4 * torch.randn(2, 8, 3, generator=generator)
    pick = torch.randint(0, 8, (600, 2), generator=generator)
    z = centers[torch.arange(2), pick] + 0.05 * torch.randn(600, 2, 3, generator=generator)
    group = torch.zeros(600, dtype=torch.long)
    once = fit_codebooks(None, z, group, 1, 32, 1, seed=0)
    often = fit_codebooks(once, z, group, 1, 32, 20, seed=0)
    assert error(often[0], z) < error(once[0], z)
    assert error(often[0], z) < 0.3


def test_fit_codebooks_takes_each_groups_own_pictures() -> None:
    z = torch.cat([torch.randn(200, 2, 3) + 10, torch.randn(200, 2, 3) - 10])
    group = torch.arange(400) // 200
    books = fit_codebooks(None, z, group, 2, 16, 5, seed=0)
    assert float(books[0].mean()) > 8
    assert float(books[1].mean()) < -8


def test_refit_codebooks_moves_only_the_named_positions() -> None:
    torch.manual_seed(0)
    books, z = torch.randn(2, 3, 8, 4), 2 * torch.randn(500, 2, 4) + 3
    positions = torch.tensor([0, 2])
    after = refit_codebooks(books, positions, z, 10, seed=0)
    assert torch.equal(after[:, 1], books[:, 1])
    for group in range(2):
        assert error(after[group, positions], z) < 0.5 * error(books[group, positions], z)
