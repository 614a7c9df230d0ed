"""Files of settings and their secrets."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def secret(tmp_path: Path) -> Callable[[str, str], Path]:
    """`secret(name, text)` writes a file that its owner alone reads."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.touch(0o600)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def write_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """`write_settings(text)` writes cameras.toml, with spools beside it if it names no folder for them."""
    monkeypatch.setenv("EDGE_STSCQ_CAMERA_SPOOL__FOLDER", str(tmp_path / "spools"))

    def write(text: str) -> Path:
        path = tmp_path / "cameras.toml"
        path.write_text(text)
        return path

    return write
