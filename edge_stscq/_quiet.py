"""Keeps the chatter of the conversion tools off the terminal.

torch.export, torchao, coremltools and ExecuTorch warn of things that the person who exports can do nothing about
(missing CUDA libraries, deprecated helpers of each other). Errors still raise.
"""

import logging
import os
import sys
import tempfile
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


@contextmanager
def silence_native() -> Iterator[None]:
    """Keep what compiled code writes to stderr while the block runs off the terminal; if the block fails, show it.

    ExecuTorch's look at the processor says line by line what it does not find. For the whole process: other threads'
    stderr is kept back too.
    """
    try:
        sys.stderr.flush()
        number = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    try:
        with tempfile.TemporaryFile() as kept:
            os.dup2(kept.fileno(), 2)
            try:
                yield
            except BaseException:
                os.dup2(number, 2)
                kept.seek(0)
                os.write(2, kept.read())
                raise
            finally:
                os.dup2(number, 2)
    finally:
        os.close(number)
