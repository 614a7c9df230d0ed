"""A folder has about ten siblings at most; one that grows past that is two rooms."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
HOUSE = ("edge_stscq", "quantization", "targets", "demo_camera", "benchmarks", "fuzz", "tests")
LIMIT = 12
EXCEPTIONS = {
    "edge_stscq": "the shared floor lies at the top",
    "edge_stscq/cli": "a file for each command",
    "quantization": "one chain of steps",
    "tests/cli": "a file for each command",
    "tests/quantization": "a file for each step, as in the package",
}


def modules(folder: Path) -> list[str]:
    return [path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")]


def folders() -> list[str]:
    found = {path.parent for root in HOUSE for path in (REPOSITORY / root).rglob("*.py")}
    return sorted(str(path.relative_to(REPOSITORY)) for path in found)


@pytest.mark.parametrize("folder", [name for name in folders() if name not in EXCEPTIONS])
def test_folder_has_few_modules(folder: str) -> None:
    assert len(modules(REPOSITORY / folder)) <= LIMIT, "make two rooms of it"


def test_folders_named_as_exceptions_are_there() -> None:
    assert EXCEPTIONS.keys() <= set(folders())
