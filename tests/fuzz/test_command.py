"""`python -m fuzz`: it runs, it reports, and what breaks a property is saved with the command that tries it again."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installed import need_module

need_module("atheris", "pip install 'edge-stscq[dev]'")

from fuzz import FOLDER  # noqa: E402
from fuzz import __main__ as command  # noqa: E402


def test_a_target_runs_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (tmp_path / "payload.dict").write_text((FOLDER / "payload.dict").read_text())
    (tmp_path / "found").mkdir()
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    run = subprocess.run
    # A process that is started counts the memory of the one that started it as its own peak; a shell between is small.
    small = ["sh", "-c", '"$@"; exit $?', "sh"]
    monkeypatch.setattr(
        command.subprocess, "run", lambda words, **options: run([*small, *words], **options | {"cwd": FOLDER.parent})
    )
    assert command.fuzz("payload", 1)
    assert re.match(
        r"payload: [\d,]+ inputs, [1-9][\d,]* a second, \d+ kept, [1-9]\d* edges\n", capsys.readouterr().out
    )


def test_a_defect_is_saved_and_can_be_tried_again(tmp_path: Path) -> None:
    broken = (
        "import sys; from fuzz import one, properties;"
        "properties.PROPERTIES['payload'] = lambda data: 1 / (len(data) < 3); one.main()"
    )
    words = [sys.executable, "-c", broken, "payload"]
    first = subprocess.run(
        [*words, "-max_total_time=20", f"-artifact_prefix={tmp_path}/"],
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
    )
    assert "ZeroDivisionError" in first.stdout + first.stderr
    (saved,) = tmp_path.iterdir()
    again = subprocess.run([*words, str(saved)], cwd=FOLDER.parent, capture_output=True, text=True)
    assert again.returncode != 0
    assert "ZeroDivisionError" in again.stdout + again.stderr
