"""Shared parts of distillations: settings, blends of faces, and a linear reader of feature maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from edge_stscq.training.init.pruning import sample_positions
from edge_stscq.training.init.ridge import ridge_regression
from edge_stscq.training.losses import channels_last

_RIDGE = 1e-4


@dataclass(frozen=True)
class DistillSettings:
    """Weights of the losses and the pace of one phase."""

    steps: int
    batch: int
    rate: float
    vectors: float = 1.0
    tokens: float = 0.1
    group: float = 0.2
    identity: float = 2.0
    temperature: float = 0.5
    decay: float = 0.998
    blends: float = 0.0
    features: float = 1.0


def blend(images: Tensor, fraction: float) -> None:
    """Make a fraction of a batch [N, 3, S, S] blends of two pictures, in place.

    "mixup" (Zhang et al. 2018, arXiv 1710.09412): there are more pairs of faces than faces, and a teacher that sees the
    same blend stays right about it (Beyer et al. 2022, arXiv 2106.05237).
    """
    count = round(fraction * len(images))
    share = 0.5 + 0.5 * torch.rand(count, 1, 1, 1, device=images.device)
    images[:count] = share * images[:count] + (1 - share) * images.flip(0)[:count]


@torch.no_grad()
def fit_reader(student: Sequence[Tensor], teacher: Sequence[Tensor], device: torch.device) -> tuple[nn.Conv2d, Tensor]:
    """Best linear reading of a teacher's feature maps from a student's, and the variance of what is read.

    The regressor of "FitNets" (Romero et al. 2015, arXiv 1412.6550): a map says of 49 places what an embedding says of
    one.

    Args:
        student, teacher: batches of maps [N, C, 7, 7] of the same pictures.
    """
    seen, target = (sample_positions(torch.cat(list(maps))).cpu() for maps in (student, teacher))
    weight, bias = ridge_regression(seen, target, _RIDGE)
    reader = nn.Conv2d(seen.shape[1], target.shape[1], 1)
    reader.load_state_dict({"weight": weight.t()[:, :, None, None], "bias": bias})
    reader, variance = channels_last(reader.to(device)), target.var(0).mean().to(device)
    if dist.is_initialized():  # each process saw faces of its own; one reads for all
        for tensor in (*reader.parameters(), variance):
            dist.broadcast(tensor, 0)
    return reader, variance
