"""MobileFaceNet as its file describes it: a graph of named convolutions, PReLUs and additions, 192 dimensions.

Batch norms are part of the convolutions in the file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional


def load_mobilefacenet(state: Mapping[str, Tensor], layout: Sequence[Sequence[Any]]) -> nn.Module:
    """The network with its weights.

    Args:
        layout: the file's steps, each a kind ("conv", "prelu", "add") and its arguments.

    Raises:
        ValueError, TypeError, IndexError, RuntimeError: layout and weights are not of this network.
    """
    network = MobileFaceNet(layout)
    network.load_state_dict(state)
    return network


class MobileFaceNet(nn.Module):
    """Steps that read and write named values; normalized picture [N, 3, 112, 112] -> raw embedding [N, 192]."""

    def __init__(self, layout: Sequence[Sequence[Any]]) -> None:
        super().__init__()
        self.layout = layout
        self.layers = nn.ModuleList(_layer(*step) for step in layout)

    def forward(self, image: Tensor) -> Tensor:
        values = {"in": image}
        for step, layer in zip(self.layout, self.layers, strict=True):
            if step[0] == "conv":
                source = values[step[6]]
                if step[7] == "SAME":
                    source = functional.pad(source, _same_padding(source.shape[-1], step[3][0], step[4][0]))
                values[step[8]] = layer(source)
            elif step[0] == "prelu":
                values[step[3]] = layer(values[step[2]])
            else:
                values[step[3]] = values[step[1]] + values[step[2]]
        return values[self.layout[-1][-1]].flatten(1)


def _layer(kind: str, *a: Any) -> nn.Module:
    if kind == "conv":
        return nn.Conv2d(a[0], a[1], tuple(a[2]), tuple(a[3]), groups=a[4])
    if kind == "prelu":
        return nn.PReLU(a[0])
    if kind == "add":
        return nn.Identity()
    raise ValueError(f"unknown step {kind}")


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int, int, int]:
    """TensorFlow's padding: the odd pixel goes to the right and the bottom."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2, total // 2, total - total // 2
