"""Signals that end a capture instead of its process, so that what was captured is kept."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopSignals:
    """Ctrl-C, SIGTERM and SIGHUP call `stop` once; the next one of them ends the process as usual. A context manager.

    A signal that the process was started to ignore (nohup, a shell's background) is left ignored. Outside the main
    thread, where Python takes no signals, nothing is changed.

    Args:
        stop: e.g. the `close` of a source; it may be called between any two instructions.

    Attributes:
        asked: the signal that came, or None.

    Example:
        >>> with StopSignals(source.close) as signals:
        ...     record(loop, source, [spool])
        >>> raise SystemExit(signals.exit_code(source.live))
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
        self.asked: signal.Signals | None = None

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for one in _SIGNALS:
                if signal.getsignal(one) != signal.SIG_IGN:
                    self._before[one] = signal.signal(one, self._caught)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def exit_code(self, live: bool) -> int:
        """0 if nothing came, or Ctrl-C or SIGTERM ended what has no end of its own; otherwise 128 and the signal."""
        wished = self.asked is None or (live and self.asked in (signal.SIGINT, signal.SIGTERM))
        return 0 if wished else 128 + int(self.asked or 0)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number)
        self._restore()
        self._stop()

    def _restore(self) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
        self._before.clear()
