"""Regionally adaptive pooling (RAP, after LFIC, arXiv 1812.10067).

A region of the aligned face is a Gaussian window over the feature map whose centre and two widths are learned by the
gradient of the training metric; faces are aligned, so the regions are the same for all pictures and cost no bits.
Windows start small where faces differ most (eyes, nose, mouth) and large at the border.
"""

import torch
from torch import Tensor, nn

# Landmark density on the unit square of the crop: (x, y, spread, weight). Positions follow the ArcFace template.
_LANDMARKS = (
    (0.36, 0.46, 0.09, 4.0),  # eyes
    (0.64, 0.46, 0.09, 4.0),
    (0.50, 0.62, 0.09, 3.0),  # nose
    (0.50, 0.78, 0.11, 4.0),  # mouth
    (0.50, 0.55, 0.35, 1.0),  # the face as a whole
)
_FLOOR = 0.08  # density of the border


def _grid(size: int) -> Tensor:
    """Centres of a `size` x `size` map on the unit square, as [size * size, 2] in (x, y)."""
    axis = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def face_density(size: int) -> Tensor:
    """Weight of each cell of a map [size, size] of the aligned face: highest at eyes, nose and mouth."""
    points = _grid(size)
    density = torch.full((len(points),), _FLOOR)
    for x, y, spread, weight in _LANDMARKS:
        square = (points - torch.tensor([x, y])).square().sum(1)
        density += weight * torch.exp(-square / (2 * spread**2))
    return density.view(size, size)


def place_regions(count: int, adaptive: bool) -> tuple[Tensor, Tensor]:
    """Centres [count, 2] and widths [count, 2] (standard deviations), both in units of the crop's side.

    Adaptive regions are the centroids of a weighted k-means over the landmark density; otherwise the density is flat.
    Deterministic.
    """
    points = _grid(32)
    density = face_density(32).flatten() if adaptive else torch.ones(len(points))
    generator = torch.Generator().manual_seed(count)
    centers = points[torch.multinomial(density, count, generator=generator)]
    centers = centers + 1e-3 * torch.randn(centers.shape, generator=generator)
    for _ in range(60):
        nearest = torch.cdist(points, centers).argmin(1)
        mass = torch.zeros(count).index_add(0, nearest, density)
        total = torch.zeros(count, 2).index_add(0, nearest, density[:, None] * points)
        centers = torch.where(mass[:, None] > 0, total / mass[:, None].clamp_min(1e-9), centers)
    area = torch.bincount(nearest, minlength=count).clamp_min(1) / len(points)
    widths = (0.6 * area.sqrt())[:, None].expand(-1, 2)
    order = (centers[:, 1] * 8).round() * 8 + centers[:, 0]  # reading order keeps neighbours near each other
    index = order.argsort()
    return centers[index].contiguous(), widths[index].contiguous()


class RegionalPooling(nn.Module):
    """Learned Gaussian windows that turn a feature map into one vector a region.

    Args:
        regions: number of windows.
        adaptive: landmark-adapted and learned (RAP); otherwise a uniform tiling that is not trained, as a control.
    """

    def __init__(self, regions: int, adaptive: bool) -> None:
        super().__init__()
        centers, widths = place_regions(regions, adaptive)
        self.centres = nn.Parameter(centers, requires_grad=adaptive)
        self.log_widths = nn.Parameter(widths.log(), requires_grad=adaptive)

    def windows(self, size: int) -> Tensor:
        """Window values [R, size * size], the maximum of each near 1."""
        axis = (torch.arange(size, device=self.centres.device) + 0.5) / size
        variance = (2 * self.log_widths).exp() + (0.3 / size) ** 2  # never narrower than a third of a cell
        square = (axis[None, :, None] - self.centres[:, None, :]).square() / (2 * variance[:, None, :])
        x, y = torch.exp(-square).unbind(-1)  # [R, size] each
        return (y[:, :, None] * x[:, None, :]).flatten(1)

    def pool(self, features: Tensor) -> Tensor:
        """Weighted means of a square feature map [N, C, S, S] over the R windows: [N, R, C]."""
        windows = self.windows(features.shape[-1])
        windows = windows / windows.sum(1, keepdim=True)
        return torch.matmul(features.flatten(2), windows.t()).transpose(1, 2)
