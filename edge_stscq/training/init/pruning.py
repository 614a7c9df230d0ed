"""The student's trunk in closed form: the recognizer with fewer channels and ReLUs, refitted layer by layer.

Channels are chosen greedily by how well the next layer's outputs are predicted from them, and every convolution is the
least-squares fit of the recognizer's own layer on what the smaller trunk really feeds it, so that errors are made good
where they arise ("channel pruning", He, Zhang & Sun 2017, arXiv 1707.06168). A PReLU becomes a ReLU of the shifted,
where it pays mirrored, value: of all shifts the one from which the original activation is best read back linearly; the
next convolution, which is linear, does the reading. No gradient step is made.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq._reporter import Reporter, track
from edge_stscq.codec import store
from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.config.codec import EMBEDDING
from edge_stscq.data.loader import Augmentation, FaceSet, Loader
from edge_stscq.recognizers.sface import fuse_batchnorms
from edge_stscq.training.embeddings import trunk_input
from edge_stscq.training.init.ridge import ridge_regression

_FACES = 3000
"""Crops that a trunk is fitted to."""
_HELD = 2_000_000
"""Places (pictures times pixels) whose activations are held at once."""
_SEEN = 60_000
"""Places that one regression sees."""
_SHIFTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Shifts tried in front of a ReLU, in standard deviations."""
_RIDGE = 1e-4
_PRIOR = 1e-2
"""Weight of the original filter in the fit of a depthwise one."""


@torch.no_grad()
def prune(whole: IdentityTrunk, channels: tuple[int, ...], pictures: Tensor, reporter: Reporter) -> IdentityTrunk:
    """A plain trunk with fewer `channels` that gives nearly the embeddings of `whole`.

    Args:
        pictures: [n, 3, 112, 112], normalised; some thousands of faces of the kind to come.
    """
    small, original = IdentityTrunk(channels, plain=True).eval(), fuse_batchnorms(whole)
    wide, narrow = _steps(original, 3), _steps(small, 2)
    kept, side = torch.arange(3), pictures.shape[-1]
    original_maps = fitted_maps = pictures[:0]
    for index in track(range(len(narrow)), "pruning", reporter):
        count = min(len(pictures), _HELD // side**2)
        if count > len(original_maps):
            original_maps, fitted_maps = (
                _run(nn.Sequential(*chain[:index]), pictures[:count]) for chain in (wide, narrow)
            )
        layer, activation, fitted = wide[index][0], wide[index][-1], narrow[index][0]
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        assert isinstance(activation, nn.PReLU)
        assert isinstance(fitted, nn.Conv2d)
        assert fitted.bias is not None
        target = _run(layer, original_maps)
        original_maps = _run(activation, target)
        if layer.groups == 1:
            kept = _select_channels(original_maps, wide[index + 1 : index + 3], original.project, fitted.out_channels)
        sign, shift = _fit_relu_shift(target[:, kept], activation.weight[kept])
        target = target[:, kept] * sign[:, None, None] + shift[:, None, None]
        plain_weight = layer.weight[kept] * sign[:, None, None, None]
        if index == 0:
            weight, bias = plain_weight, layer.bias[kept] * sign + shift
        elif layer.groups == 1:
            flat, bias = ridge_regression(sample_positions(fitted_maps), sample_positions(target), _RIDGE)
            weight = flat.t()[:, :, None, None]
        else:
            weight, bias = _regress_depthwise(fitted_maps, target, plain_weight, layer.stride)
        fitted.weight.copy_(weight)
        fitted.bias.copy_(bias)
        fitted_maps = _run(narrow[index], fitted_maps)
        side = fitted_maps.shape[-1]
    weight, bias = ridge_regression(sample_positions(fitted_maps), sample_positions(original_maps), _RIDGE)
    project = original.project.weight.view(EMBEDDING, -1, side * side)
    small.project.weight.copy_(torch.einsum("wc,ocp->owp", weight, project).flatten(1))
    small.project.bias.copy_(original.project.bias + (project * bias[:, None]).sum((1, 2)))
    return small


def prune_on(
    whole: IdentityTrunk, channels: tuple[int, ...], faces: FaceSet, change: Augmentation, seed: int, reporter: Reporter
) -> IdentityTrunk:
    """Prune a trunk on crops of a training set, drawn by `seed`: the same in every process."""
    loader = Loader(faces, min(_FACES, len(faces)), seed, change)
    pictures = trunk_input(loader.get(0, ahead=0).images).contiguous(memory_format=torch.channels_last)
    loader.close()
    return prune(whole, channels, pictures, reporter)


def pruned_trunks(
    whole: IdentityTrunk, channels: Sequence[tuple[int, ...]], faces: FaceSet, change: Augmentation, seed: int,
    folder: Path, reporter: Reporter,
) -> list[IdentityTrunk]:  # fmt: skip
    """Pruned trunks, each on faces of its own, as files in `folder` hold them or made now."""
    trunks = []
    for index, widths in enumerate(channels):
        path = folder / f"trunk-{index}.safetensors"
        if not path.exists():
            made = prune_on(whole, widths, faces, change, seed + 1 + index, reporter)
            folder.mkdir(parents=True, exist_ok=True)
            store.save_weights(path, made.state_dict())
        trunks.append(IdentityTrunk(widths, plain=True))
        trunks[-1].load_state_dict(store.load_weights(path))
    return trunks


def _steps(trunk: IdentityTrunk, length: int) -> list[nn.Sequential]:
    """Each convolution with the layers up to the next one."""
    layers = list(trunk.features)
    return [nn.Sequential(*layers[i : i + length]) for i in range(0, len(layers), length)]


def _run(layer: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([layer(part) for part in x.split(32)])


def sample_positions(x: Tensor) -> Tensor:
    """Evenly spread places of feature maps [n, C, h, w] as rows [p, C]."""
    rows = x.permute(0, 2, 3, 1).flatten(0, 2)
    return rows[torch.linspace(0, len(rows) - 1, min(len(rows), _SEEN)).long()]


def _regress_depthwise(x: Tensor, y: Tensor, prior: Tensor, stride: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Weight [C, 1, 3, 3] and bias [C] that best give y [n, C, h, w] from x, each channel by itself."""
    n, channels = x.shape[:2]
    n = min(n, max(1, _SEEN // y[0, 0].numel()))
    windows = functional.unfold(x[:n].flatten(0, 1)[:, None], 3, padding=1, stride=stride)
    windows = windows.view(n, channels, 9, -1).permute(1, 0, 3, 2).flatten(1, 2)
    values = y[:n].permute(1, 0, 2, 3).flatten(1)[..., None]
    mean, level = windows.mean(1, keepdim=True), values.mean(1, keepdim=True)
    windows = windows - mean
    gram = windows.transpose(1, 2) @ windows
    pull = _PRIOR * gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)[:, None, None]
    flat = prior.view(channels, 9, 1)
    weight = torch.linalg.solve(gram + pull * torch.eye(9), windows.transpose(1, 2) @ (values - level) + pull * flat)
    return weight.view(channels, 1, 3, 3), (level - mean @ weight).flatten()


def _select_channels(original: Tensor, after: list[nn.Sequential], project: nn.Linear, count: int) -> Tensor:
    """Channels int64 [count] from which what comes next is best predicted.

    What comes next are the outputs of the next pointwise convolution, seen through the depthwise one, or, after the
    last layer, the projection.

    Args:
        original: activations [n, C, h, w] of the original.
        after: the two layers that follow.
    """
    if after:
        x = sample_positions(_run(after[0], original))
        pointwise = after[1][0]
        assert isinstance(pointwise, nn.Conv2d)
        reader = pointwise.weight.flatten(1).t()
    else:
        x = sample_positions(original)
        weight = project.weight.view(EMBEDDING, original.shape[1], -1)
        values, vectors = torch.linalg.eigh(torch.einsum("ocp,odp->cd", weight, weight))
        reader = vectors * values.clamp_min(0).sqrt()
    x = x - x.mean(0)
    gram = (x.t() @ x).double()
    return _forward_selection(gram, gram @ reader.double(), count)


def _forward_selection(gram: Tensor, product: Tensor, count: int) -> Tensor:
    """Forward selection: columns int64 [count] of X, one after the other, that leave least of Y unexplained.

    Args:
        gram: X'X [C, C].
        product: X'Y [C, O].
    """
    gram, product = gram.clone(), product.clone()
    floor = 1e-6 * gram.diagonal().clamp_min(1e-12)
    chosen: list[int] = []
    for _ in range(count):
        energy = gram.diagonal()
        gain = torch.where(energy > floor, product.square().sum(1) / energy.clamp_min(1e-12), -1.0)
        gain[chosen] = -2.0
        best = int(gain.argmax())
        chosen.append(best)
        if energy[best] > floor[best]:
            share = gram[:, best] / energy[best]
            product = product - share[:, None] * product[best]
            gram = gram - share[:, None] * gram[best]
    return torch.tensor(sorted(chosen))


def _fit_relu_shift(x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Sign and shift [C] for which PReLU(x) is most nearly linear in ReLU(sign * x + shift); x is [n, C, h, w]."""
    rows = sample_positions(x).t()
    wanted = torch.where(rows > 0, rows, rows * slope[:, None])
    wanted = wanted - wanted.mean(1, keepdim=True)
    deviation = rows.std(1, keepdim=True)
    energy = wanted.square().mean(1)
    least, sign, shift = torch.full_like(energy, torch.inf), torch.ones_like(energy), torch.zeros_like(energy)
    for s in (1.0, -1.0):
        for amount in _SHIFTS:
            seen = functional.relu(s * rows + amount * deviation)
            seen = seen - seen.mean(1, keepdim=True)
            explained = (seen * wanted).mean(1).square() / seen.square().mean(1).clamp_min(1e-12)
            better = energy - explained < least - 1e-3 * energy  # a smaller shift unless a larger one gains
            least = torch.where(better, energy - explained, least)
            sign = torch.where(better, s, sign)
            shift = torch.where(better, amount * deviation.flatten(), shift)
    return sign, shift
