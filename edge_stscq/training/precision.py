"""Precision of training: float32, or bfloat16 where this machine is faster with it.

Processors with AVX512-BF16 or AMX compute a convolution in bfloat16 two to four times as fast as in float32; older ones
emulate it and are slower. `auto` therefore measures.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from edge_stscq.errors import EdgeError
from edge_stscq.training.options import PrecisionName

_ROUNDS = 5
_NATIVE = ("avx512_bf16", "amx_bf16", "bf16")
"""Flags of processors that compute in bfloat16: x86, x86 with matrix units, Arm."""


class Precision(NamedTuple):
    """Precision of networks while they are trained; weights and optimizer stay in float32."""

    dtype: torch.dtype
    reason: str
    """One line that says why, for people."""

    @contextmanager
    def autocast(self, device: torch.device) -> Iterator[None]:
        """Compute in this precision where that is faster; on a CPU, see `FastAutocast`."""
        if self.dtype != torch.bfloat16:
            yield
        elif device.type == "cpu":
            with torch.autocast("cpu", torch.bfloat16), FastAutocast():
                yield
        else:
            with torch.autocast(device.type, torch.bfloat16):
                yield


class FastAutocast(TorchFunctionMode):
    """Exceptions to autocast on a CPU, whose choice is slow for two operations.

    Depthwise convolutions that will be differentiated are computed in float32: with few products a byte they gain
    nothing from bfloat16, and oneDNN has no fast backward pass of strided ones in it (85 instead of 0.6 ms with 368
    channels). PReLU, which autocast widens to float32, keeps the type of its input, as the convolution behind it will.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        kwargs = kwargs or {}
        if func is functional.conv2d and torch.is_grad_enabled():
            if (args[6] if len(args) > 6 else kwargs.get("groups", 1)) > 1:
                return _without_autocast(func, torch.float32, args, kwargs)
        elif func is functional.prelu:
            return _without_autocast(func, (args[0] if args else kwargs["input"]).dtype, args, kwargs)
        return func(*args, **kwargs)


def _without_autocast(
    func: Callable[..., Any], dtype: torch.dtype, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:  # fmt: skip
    def convert(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) else value

    with torch.autocast("cpu", enabled=False):
        return func(*map(convert, args), **{name: convert(value) for name, value in kwargs.items()})


def choose_precision(name: PrecisionName, device: torch.device) -> Precision:
    """The precision of a name on a device.

    Raises:
        EdgeError: bfloat16 on a processor without it.
    """
    if name is PrecisionName.FLOAT32:
        return Precision(torch.float32, "float32, as asked")
    if device.type == "cuda":
        if name is PrecisionName.BFLOAT16 or torch.cuda.is_bf16_supported():
            return Precision(torch.bfloat16, "bfloat16 on CUDA")
        return Precision(torch.float32, "float32: this GPU has no bfloat16")
    if name is PrecisionName.BFLOAT16:
        if not _native():
            raise EdgeError("this processor has no bfloat16 and would emulate it; use --precision auto or float32")
        return Precision(torch.bfloat16, "bfloat16, as asked")
    single, half = _seconds(torch.float32), _seconds(torch.bfloat16)
    chosen = torch.bfloat16 if half < single else torch.float32
    word = "bfloat16" if chosen is torch.bfloat16 else "float32"
    times = f"a convolution takes {1e3 * single:.0f} ms in float32, {1e3 * half:.0f} in bfloat16"
    return Precision(chosen, f"{word}: {times}")


def _native() -> bool:
    """True if the processor's flags name an instruction set for bfloat16, as far as this system tells."""
    try:
        with open("/proc/cpuinfo") as file:
            flags = {word for line in file if line.startswith(("flags", "Features")) for word in line.split()}
    except OSError:
        return True
    return any(flag in flags for flag in _NATIVE)


def _seconds(dtype: torch.dtype) -> float:
    """Seconds of the fastest forward and backward pass of a convolution."""
    x = torch.randn(8, 96, 32, 32, requires_grad=True).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(96, 96, 3, 3, requires_grad=True)
    taken = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            functional.conv2d(x, weight, padding=1).float().square().mean().backward()
        taken.append(time.perf_counter() - began)
    return min(taken)
