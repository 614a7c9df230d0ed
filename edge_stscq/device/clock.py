"""Time of capture, and how far the device's clock is to be believed."""

import ctypes
import ctypes.util
import sys
import time
from functools import cache

from edge_stscq.stream.envelope import Clock

_TIME_ERROR = 5
"""Answer of adjtimex(2): nothing has synchronized the clock."""
_TIMEX_BYTES = 512
"""More than `struct timex` has anywhere; zeros ask for nothing to be changed."""


def now() -> tuple[int, Clock]:
    """Milliseconds since 1970 UTC, and the state of the clock that says so.

    Example:
        >>> captured_ms, clock = now()
    """
    return time.time_ns() // 1_000_000, clock_state()


def clock_state() -> Clock:
    """State of the system's clock: synchronized if the kernel knows so, by NTP or otherwise."""
    ask = _kernel()
    if ask is None:
        return Clock.UNSYNCHRONIZED
    answer = ask(ctypes.create_string_buffer(_TIMEX_BYTES))
    return Clock.SYNCHRONIZED if 0 <= answer < _TIME_ERROR else Clock.UNSYNCHRONIZED


@cache
def _kernel() -> "ctypes._FuncPointer | None":
    """The system's question about its clock; None where there is none that is known."""
    if sys.platform not in ("linux", "darwin"):
        return None
    library = ctypes.CDLL(ctypes.util.find_library("c"))
    return getattr(library, "adjtimex" if sys.platform == "linux" else "ntp_adjtime", None)
