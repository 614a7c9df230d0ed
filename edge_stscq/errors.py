"""The errors a user can act on.

Each carries one line that says what was wrong and the next step; the command line prints that line and exits with
`EXIT_BAD_INPUT`. Anything else that is raised is a defect of this program.
"""

from importlib import import_module
from types import ModuleType

EXIT_CHECK_FAILED = 1
"""A check ran and its result is below the threshold (parity, selftest)."""
EXIT_BAD_INPUT = 2
"""The command could not run: bad input, missing file, missing extra."""
EXIT_INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended before it could end in its own way."""


class EdgeError(Exception):
    """Bad input or a missing piece. The message names the problem and the next step.

    Example:
        >>> try:
        ...     crop = align(read_image("portrait.png"))
        ... except EdgeError as error:
        ...     print(error)
        no face found; give a sharp picture with a face at least 60 pixels wide
    """


class FrameError(EdgeError):
    """A frame or stream is damaged, truncated or of another model."""


class BundleError(EdgeError):
    """A bundle is incomplete, altered or outside the runtime's range."""


class MissingExtraError(EdgeError):
    """An optional dependency is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise `MissingExtraError` naming the extra that brings it."""
    try:
        return import_module(module)
    except ImportError as error:
        missing = error.name or module
        raise MissingExtraError(f"{missing} is not installed; run: pip install 'edge-stscq[{extra}]'") from error
