"""Bias correction (Nagel et al. 2019, arXiv 1906.04721, section 4.2, from pictures).

Rounding weights and inputs, and clipping inputs, shifts the mean of a layer's output channels. On average over faces
the shift is a constant of each channel, and a constant can be taken back by the bias at no cost. Layers are corrected
in graph order, each on what the corrected ones before it make.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import Interpreter, Node

from edge_stscq.codec.encoder import normalize_image
from quantization.simulation import Simulation

_FACES = 128
"""Held in memory at once, so that a single pass corrects layer after layer; about 0.6 GB for the released student."""


class BiasCorrection:
    """Measures what to add to the biases of a simulated student.

    Args:
        simulation: of the student; left with other layers in int8 after each use.
        images: crops uint8 [N, 128, 128, 3]; 128 of them are looked at.
    """

    @torch.no_grad()
    def __init__(self, simulation: Simulation, images: NDArray[np.uint8]) -> None:
        chosen = np.linspace(0, len(images) - 1, min(_FACES, len(images))).round().astype(int)
        self._faces = normalize_image(torch.from_numpy(images[chosen]))
        self._simulation = simulation
        simulation.use(())
        full = _Means(simulation, None)
        full.run(self._faces)
        self._wanted = full.means

    @torch.no_grad()
    def shifts(self, int8: Collection[str]) -> dict[str, NDArray[np.float32]]:
        """Shift float32 [C] of every layer when the layers `int8` are; zero before the first of them."""
        self._simulation.use(int8)
        found = _Means(self._simulation, self._wanted)
        found.run(self._faces)
        return {name: (self._wanted[name] - mean).float().numpy() for name, mean in found.means.items()}


class _Means(Interpreter):
    """Runs the graph and notes the mean of each output channel of each layer, before the ReLU.

    Given the wanted means, it also shifts the output to have them, behind what it notes.
    """

    def __init__(self, simulation: Simulation, wanted: Mapping[str, Tensor] | None) -> None:
        super().__init__(simulation.graph)
        self.names = {layer.node: layer.name for layer in simulation.layers}
        self.wanted = wanted
        self.means: dict[str, Tensor] = {}

    def run_node(self, n: Node) -> Any:
        output = super().run_node(n)
        if name := self.names.get(n):
            others = [0, *range(2, output.dim())]
            self.means[name] = mean = output.mean(others, dtype=torch.float64)
            if self.wanted is not None:
                output += (self.wanted[name] - mean).float().view(-1, *[1] * (output.dim() - 2))
        return output
