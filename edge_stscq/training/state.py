"""State of a training task as a flat dictionary of tensors: a checkpoint is one safetensors file, never a pickle."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Exponential moving average of a network's parameters; buffers are copied (decay is ramped up at the start)."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {k: v.detach().clone() for k, v in network.state_dict().items()}
        self._trained = {k for k, v in network.named_parameters() if v.requires_grad}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            if name in self._trained:
                self.tensors[name].lerp_(value, 1 - decay)
            else:
                self.tensors[name].copy_(value)

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take averages back, onto the device of the present ones.

        Raises:
            KeyError: they are of another network.
        """
        self.tensors = {name: tensors[name].to(value.device) for name, value in self.tensors.items()}

    @contextmanager
    def applied_to(self, network: nn.Module) -> Iterator[None]:
        """Put the averaged weights into a network for a while."""
        live = {k: v.clone() for k, v in network.state_dict().items()}
        network.load_state_dict(self.tensors)
        try:
            yield
        finally:
            network.load_state_dict(live)


Part = nn.Module | EMA | torch.optim.Optimizer


class Resumable:
    """Base of tasks: what changes while they train, part by part.

    Names of parts are beginnings of a checkpoint's tensor names. Checkpoints outlive a version of this program, so a
    part keeps its name.
    """

    parts: dict[str, Part]

    def state(self) -> dict[str, Tensor]:
        """Everything that must survive an interruption."""
        return {f"{name}/{key}": value for name, part in self.parts.items() for key, value in _tensors(part).items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave.

        Raises:
            KeyError, RuntimeError, ValueError: it is of another configuration.
        """
        for name, part in self.parts.items():
            kept = part_of(state, name)
            if isinstance(part, torch.optim.Optimizer):
                _load_optimizer(part, kept)
            else:
                part.load_state_dict(kept)


def part_of(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Tensors of one part of a state, by their names in it."""
    return {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(name + "/")}


def _tensors(part: Part) -> Mapping[str, Tensor]:
    if isinstance(part, EMA):
        return part.tensors
    if isinstance(part, nn.Module):
        return part.state_dict()
    states = part.state_dict()["state"]  # moments and step counts
    return {f"{i}/{k}": torch.as_tensor(v) for i, s in states.items() for k, v in s.items()}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put moments and step counts back.

    A moment takes the memory layout of its parameter: fused kernels walk both as raw memory; a file knows no layout.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split("/")
        like = parameters[int(index)]
        slots.setdefault(int(index), {})[key] = (
            torch.empty_like(like, requires_grad=False).copy_(value) if value.shape == like.shape else value
        )
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
