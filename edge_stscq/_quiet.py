"""Keeps the chatter of the conversion tools off the terminal.

torch.export, torchao, coremltools and ExecuTorch warn of things that the person who exports can do nothing about
(missing CUDA libraries, deprecated helpers of each other). Errors still raise.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silence_exporters() -> Iterator[None]:
    """Silence warnings and log records below ERROR while the block runs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
