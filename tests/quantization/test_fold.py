"""Constants of a graph, computed once before it is lowered."""

import torch
from torch import Tensor, nn

from quantization.fold import fold_constants


class Window(nn.Module):
    """A graph whose weights are exponentials of a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.width = nn.Parameter(torch.linspace(-9, 4, 4001))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.exp(-self.width.square())


def test_constants_are_computed_in_float64_and_rounded_once() -> None:
    """In float32 the last bit of an exponential hangs on the processor, and with it the bytes of an export."""
    module, x = Window().eval(), torch.ones(4001)
    graph = torch.export.export(module, (x,)).module(check_guards=False)
    fold_constants(graph)
    (folded,) = (value for name, value in graph.named_buffers() if name.startswith("folded"))
    assert folded.dtype == torch.float32
    assert torch.equal(folded, torch.exp(-module.width.detach().double().square()).float())
    assert not any("exp" in str(node.target) for node in graph.graph.nodes if node.op == "call_function")
    assert torch.equal(graph(x), folded)
