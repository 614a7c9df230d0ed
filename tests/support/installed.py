"""Requirements of tests: one is skipped without its own, and fails under continuous integration.

`EDGE_STSCQ_REQUIRE=1` says that everything is meant to be there, so that no test drops out unseen. It holds for
packages and programs; a test that needs real faces (`shared_data`) is skipped where there are none.
"""

import importlib
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

REQUIRE = "EDGE_STSCQ_REQUIRE"


def absent(what: str, remedy: str) -> NoReturn:
    """Skip for want of `what`, or fail where it is required; in a test, a fixture or while a module is imported."""
    message = f"{what} is not installed; {remedy}"
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{message} ({REQUIRE}=1 asks for it)", pytrace=False)
    pytest.skip(message, allow_module_level=True)


def need_module(name: str, remedy: str) -> ModuleType:
    """The imported module, e.g. `need_module("onnx", "pip install 'edge-stscq[onnx]'")`."""
    try:
        return importlib.import_module(name)
    except ImportError:
        absent(name, remedy)


def need_package(name: str, remedy: str) -> None:
    """As `need_module`, without importing it: all workers of a run read each file, and few need what it imports."""
    if find_spec(name) is None:
        absent(name, remedy)


def need_program(name: str, remedy: str) -> Path:
    """Path of a program, e.g. `need_program("openssl", "apt-get install openssl")`."""
    found = shutil.which(name)
    return Path(found) if found else absent(name, remedy)
