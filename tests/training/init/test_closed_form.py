"""Codebooks in closed form: shared entries against free ones, on the grid, within each layer's share."""

import pytest
import torch
from torch import Tensor

from edge_stscq.codec.integer.encoder import TOKEN_STEP, ReferenceEncoder
from edge_stscq.training.init.closed_form import BookFit, fit_codebooks, kmeans, principal_components, signal_to_noise
from edge_stscq.training.init.controls import controls, equal_entries
from edge_stscq.training.init.samples import code, count_tables, fit_components
from tests.training.integer import CODEC

PLAN = BookFit(iterations=10, seed=1)


def grouped(count: int, seed: int) -> Tensor:
    """Token vectors [n, 20, 8] of two kinds of faces that differ by means and scales only."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.arange(count) % 2
    z = torch.randn(count, 20, 8, generator=generator) * torch.tensor([0.3, 0.4])[kind, None, None]
    return z + torch.tensor([-0.3, 0.3])[kind, None, None]


def test_shared_entries_are_better_than_free_ones_on_other_faces() -> None:
    config = CODEC.model_copy(update={"entries": 128, "layers": tuple(
        layer.model_copy(update={"entries": None}) for layer in CODEC.layers
    )})  # fmt: skip
    seen, other = grouped(2000, 1), grouped(400, 2)
    shared = fit_codebooks(seen, config, PLAN).books
    free = fit_codebooks(seen, config, PLAN._replace(free=True)).books
    assert signal_to_noise(free, seen, 8)[1] > signal_to_noise(shared, seen, 8)[1] + 0.3, "free ones learn by heart"
    assert signal_to_noise(shared, other, 8)[1] > signal_to_noise(free, other, 8)[1] + 0.05


def test_entries_lie_on_the_grid_and_within_the_layers_share() -> None:
    z = grouped(200, 1)
    fitted = fit_codebooks(z, CODEC, PLAN)
    assert fitted.books.shape == (2, 20, 4, 8)
    whole = fitted.books / TOKEN_STEP
    assert torch.equal(whole, whole.round())
    assert whole.abs().max() <= 128
    encoder = ReferenceEncoder(CODEC)
    encoder.codebooks.books.copy_(fitted.books)
    coded = code(encoder, z)
    assert coded.tokens[:, :8].max() == 2, "the fourth entry of the first layer is a copy that never wins"
    assert coded.tokens[:, 8:].max() == 3
    assert torch.equal(coded.group % 2, (torch.arange(200) % 2 + coded.group[0]) % 2), "groups are the kinds of faces"


def test_tables_count_as_often_as_weights_say() -> None:
    encoder = ReferenceEncoder(CODEC)
    encoder.codebooks.books.copy_(fit_codebooks(grouped(60, 1), CODEC, PLAN).books)
    coded = code(encoder, grouped(60, 3))
    twice = type(coded)(*(torch.cat([part, part]) for part in coded))
    once = count_tables(CODEC, coded, torch.full((60,), 2.0))
    again = count_tables(CODEC, twice, torch.ones(120))
    assert (once.frequencies == again.frequencies).all()
    assert (once.group_frequencies == again.group_frequencies).all()
    assert (once.frequencies[:, :8, 3] < 2**16 / 30).all()


def test_empty_entries_are_seeded_anew_and_few_rows_are_enough() -> None:
    z = torch.randn(3, 2, 4)
    books = kmeans(z, 8, 3, torch.Generator().manual_seed(0))
    assert books.shape == (2, 8, 4)
    assert books.isfinite().all()


def test_principal_components_of_few_rows_are_those_of_the_covariance() -> None:
    generator = torch.Generator().manual_seed(1)
    x, importance = torch.randn(30, 40, generator=generator), torch.linspace(0.5, 2, 40)
    weight = torch.rand(30, generator=generator)
    share = weight / weight.sum()
    few = principal_components(x, 8, weight, importance)
    whole = principal_components(x, 31, weight, importance)  # more than there are rows: by the covariance
    torch.testing.assert_close(few.deviations, whole.deviations[:8])
    torch.testing.assert_close(few.basis, whole.basis[:, :8], atol=1e-4, rtol=1e-4)
    z = (x - few.mean) @ few.basis
    torch.testing.assert_close((z.t() * share) @ z, few.deviations.square().diag(), atol=1e-4, rtol=1e-4)


def test_principal_components_follow_weight_and_importance() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 6, generator=generator) * torch.tensor([5.0, 3, 1, 1, 1, 1])
    plain = principal_components(x, 2)
    assert plain.basis[:, 0].abs().argmax() == 0
    assert plain.deviations[0] == pytest.approx(5, rel=0.1)
    repeated = principal_components(torch.cat([x, x[:100]]), 2)
    weight = torch.ones(500)
    weight[:100] = 2
    weighted = principal_components(x, 2, weight)
    assert torch.allclose(weighted.deviations, repeated.deviations, rtol=1e-4)
    important = principal_components(x, 2, None, torch.tensor([0.01, 1, 1, 1, 1, 1]))
    assert important.basis[:, 0].abs().argmax() == 1


def test_components_fill_the_grid_of_tokens() -> None:
    torch.manual_seed(0)
    embeddings, thumbnails = torch.randn(80, 128), torch.rand(80, 3, 32, 32) * 2 - 1
    encoder = ReferenceEncoder(CODEC).eval()
    z = fit_components(encoder, embeddings, embeddings[:40], thumbnails, torch.ones(80))
    assert z.shape == (80, 20, 8)
    assert ((z / TOKEN_STEP).abs() <= 128).float().mean() > 0.99
    assert z[:, 8:].abs().amax() > 0.5
    assert not torch.equal(encoder.head.centre, encoder.head.mean)


def test_controls_spend_equal_bytes_and_hold_faces_out() -> None:
    big = CODEC.model_copy(update={"entries": 16, "groups": 4, "layers": (
        CODEC.layers[0].model_copy(update={"entries": 13}), *CODEC.layers[1:]
    )})  # fmt: skip
    assert equal_entries(big, 4) == 13
    assert equal_entries(big, 1) == 15  # 13 * 4 ** (1 / 8)
    z = grouped(400, 1)
    rows = list(controls(z, big, PLAN._replace(iterations=3), torch.ones(400)))
    names = [(row.name, row.groups) for row in rows]
    assert names[:2] == [("one codebook shared by all positions", 1), ("a codebook for each position", 1)]
    assert {("free groups", 4), ("groups that share entries", 4), ("groups that share entries", 16)} <= set(names)
    free = next(row for row in rows if row.name == "free groups")
    assert free.fitted[0] > free.held_out[0]
