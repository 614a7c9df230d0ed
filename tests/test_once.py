"""A folder that several workers ask for is made by one of them."""

from pathlib import Path

import pytest

from tests.support.once import made_once


def test_made_once_makes_it_once_and_whole(tmp_path_factory: pytest.TempPathFactory) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "part").touch()
        assert len(made) > 1, "the first one breaks off"

    with pytest.raises(AssertionError, match="breaks off"):
        made_once(tmp_path_factory, "test-once", make)
    first, second = (made_once(tmp_path_factory, "test-once", make) for _ in range(2))
    assert first == second
    assert len(made) == 2
    assert [path.name for path in first.iterdir()] == ["part"]


@pytest.mark.parametrize("worker", [None, "gw1"])
def test_made_once_lies_in_the_folder_of_the_run(
    worker: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Factory:
        @staticmethod
        def getbasetemp() -> Path:
            return tmp_path / "run" / "popen-gw1"

    Factory.getbasetemp().mkdir(parents=True)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    if worker:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    place = made_once(Factory, "each", lambda folder: None)  # type: ignore[arg-type]
    assert place == (tmp_path / "run" if worker else Factory.getbasetemp()) / "once" / "each"
