"""The trunk pruned in closed form."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq._reporter import SILENCE
from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.training.init.pruning import _fit_relu_shift, _forward_selection, prune

WHOLE = (8, 16, 16, 24, 32, 32)


def trunk(slope: float) -> IdentityTrunk:
    """A random trunk whose norms have settled and whose PReLUs all have one slope."""
    torch.manual_seed(0)
    made = IdentityTrunk(WHOLE)
    for module in made.modules():
        if isinstance(module, nn.PReLU):
            nn.init.constant_(module.weight, slope)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1 - 0.9**30  # one pass settles it as 30 of the same pictures do at the usual 0.1
    with torch.no_grad():
        made(blobs(16, 1))
    return made.eval()


def blobs(count: int, seed: int) -> Tensor:
    coarse = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(coarse, size=112, mode="bicubic")


def cut(whole: IdentityTrunk, channels: tuple[int, ...]) -> IdentityTrunk:
    return prune(whole, channels, blobs(24, 2), SILENCE)


def likeness(one: nn.Module, other: nn.Module) -> float:
    x = blobs(32, 3)
    with torch.no_grad():
        return float(functional.cosine_similarity(one(x) - one(x).mean(0), other(x) - other(x).mean(0)).mean())


def test_a_trunk_of_relus_kept_whole_is_the_same_function() -> None:
    whole = trunk(0.0)
    assert likeness(cut(whole, WHOLE), whole) > 0.99  # a ridge penalty pulls a little


def test_relus_stand_in_for_prelus() -> None:
    """A random network is a hard case: 27 layers of it forget their input when the slopes are just dropped."""
    whole, dropped = trunk(0.3), trunk(0.3)
    for module in dropped.modules():
        if isinstance(module, nn.PReLU):
            nn.init.zeros_(module.weight)
    assert likeness(dropped, whole) < 0.1
    assert likeness(cut(whole, WHOLE), whole) > 0.35


def test_fewer_channels_keep_part_of_the_embedding() -> None:
    whole = trunk(0.0)
    small = cut(whole, (8, 12, 12, 16, 24, 24))
    assert sum(p.numel() for p in small.parameters()) < 0.8 * sum(p.numel() for p in whole.parameters())
    assert likeness(small, whole) > 0.4


def test_channels_that_say_the_same_are_not_both_kept() -> None:
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).double()
    columns = torch.stack([x[:, 0] * 3, x[:, 0] * 2.9, x[:, 1], x[:, 2] * 0.1], dim=1)
    chosen = _forward_selection(columns.t() @ columns, columns.t() @ (columns @ torch.ones(4, 1).double()), 2)
    assert chosen.tolist() == [0, 2]


def test_a_linear_activation_is_shifted_and_a_relu_is_not() -> None:
    x = torch.randn(20, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    sign, shift = _fit_relu_shift(x, torch.tensor([0.0, 1.0, 3.0]))
    assert shift[0] == 0
    assert sign[0] == 1
    assert shift[1] > 2
    assert sign[2] == -1  # the steeper arm is kept
