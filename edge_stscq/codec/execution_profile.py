"""Execution profiles: precision, batch size and compilation for each device type.

A CPU computes in float32 and takes batches of any size. Sixteen faces at once cost about 0.6 of what they cost one by
one, eight a little more and thirty-two no less: larger batches would only make everybody wait.

CUDA computes in bfloat16 and runs a compiled network. A network is compiled for each shape it sees, and a compilation
takes far longer than anybody's deadline, so batches are padded to the next of a few sizes - 1, 2, 4, ... - all of which
are compiled before the server is ready.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True, slots=True)
class ExecutionProfile:
    """Choices for one kind of device.

    Attributes:
        precision: what the network computes in; weights and pictures are float32 and uint8 everywhere.
        max_batch: most faces in one pass of the network.
        compiler: backend of `torch.compile`; None runs the network as it is written.
        fixed_shapes: True if batches are padded to `shapes`.
    """

    precision: Literal["float32", "bfloat16"]
    max_batch: int
    compiler: str | None
    fixed_shapes: bool

    @property
    def shapes(self) -> tuple[int, ...]:
        """Batch sizes to run before the first user does: all there will be, or the smallest and the largest."""
        if not self.fixed_shapes:
            return tuple(sorted({1, self.max_batch}))
        return (*(1 << power for power in range((self.max_batch - 1).bit_length())), self.max_batch)

    def padded(self, count: int) -> int:
        """Size at which a batch of `count` faces, 1 to `max_batch`, is run."""
        return min(shape for shape in self.shapes if shape >= count) if self.fixed_shapes else count


PROFILES: Mapping[str, ExecutionProfile] = MappingProxyType(
    {
        "cpu": ExecutionProfile("float32", max_batch=16, compiler=None, fixed_shapes=False),
        "cuda": ExecutionProfile("bfloat16", max_batch=64, compiler="inductor", fixed_shapes=True),
    }
)
"""Profiles by device."""


def profile_for(device: str, max_batch: int | None = None) -> ExecutionProfile:
    """The profile of a device, with batches of `max_batch` if that is given."""
    profile = PROFILES[device]
    return profile if max_batch is None else replace(profile, max_batch=max_batch)
