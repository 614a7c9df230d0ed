import torch

from edge_stscq.codec.codebooks import SwitchedCodebooks


def test_distances_are_those_of_the_chosen_group_and_position() -> None:
    torch.manual_seed(0)
    books = SwitchedCodebooks(groups=3, tokens=5, entries=7, dim=4)
    z, group = torch.randn(6, 5, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    distances = books.distances(z, group)
    for n in range(6):
        for t in range(5):
            expected = (books.books[group[n], t] - z[n, t]).square().sum(-1)
            torch.testing.assert_close(distances[n, t], expected, rtol=1e-4, atol=1e-5)


def test_one_shared_codebook_serves_every_position() -> None:
    torch.manual_seed(0)
    shared = SwitchedCodebooks(1, 5, 7, 4, token_specific=False)
    specific = SwitchedCodebooks(1, 5, 7, 4)
    specific.books.copy_(shared.books.expand(-1, 5, -1, -1))
    z, group = torch.randn(3, 5, 4), torch.zeros(3, dtype=torch.long)
    torch.testing.assert_close(shared.distances(z, group), specific.distances(z, group))
    tokens = shared.distances(z, group).argmin(-1)
    torch.testing.assert_close(shared.lookup(group, tokens), specific.lookup(group, tokens))
    assert shared.books.numel() * 5 == specific.books.numel()


def test_group_errors_find_the_group_that_holds_the_vectors() -> None:
    torch.manual_seed(0)
    books = SwitchedCodebooks(4, 6, 16, 8)
    group, tokens = torch.tensor([3, 0, 2]), torch.randint(0, 16, (3, 6))
    errors = books.group_errors(books.lookup(group, tokens))
    assert torch.equal(errors.argmin(1), group)
    assert float(errors.amin(1).max()) < 1e-5
