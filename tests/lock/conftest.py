"""Fixed inputs of the lock, and the comparison with what is kept under `tests/golden/lock`.

`GENERATE_EXPECTED=1 python -m pytest tests/lock` writes the golden files anew; a commit that changes one says why.
"""

import json
from typing import Any

import pytest

from tests.support.models.golden_model import GENERATE, GOLDEN


@pytest.fixture(scope="session")
def expected() -> Any:
    """`expected(name, found)` returns the content of a golden JSON file, written from `found` first when generating."""

    def read(name: str, found: object) -> Any:
        path = GOLDEN / f"{name}.json"
        if GENERATE:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
        return json.loads(path.read_text())

    return read
