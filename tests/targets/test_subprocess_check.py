"""A fresh process that crashes, hangs or complains is reported with what the runtime said."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_stscq.errors import EdgeError
from targets.subprocess_check import verify_in_subprocess

REPOSITORY = Path(__file__).resolve().parent.parent.parent
STUB = """
import os, signal, sys, time


class SessionOptions:
    def add_session_config_entry(self, *entry):
        pass


def InferenceSession(*arguments, **options):
    print("stub: kernel 7", file=sys.stderr, flush=True)
    {code}
"""


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`runtime(code)` puts a module in ONNX Runtime's place that runs `code` when an artefact is loaded."""

    def stub(code: str) -> None:
        (tmp_path / "onnxruntime.py").write_text(STUB.format(code=code))
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{REPOSITORY}")

    return stub


def test_run_module_reports_a_crash_with_its_signal(bundles: dict[str, Path], runtime: Callable[[str], None]) -> None:
    """A crash is reported with its signal and the runtime's message."""
    runtime("os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(EdgeError, match=r"killed the process that ran it \(SIGSEGV\): stub: kernel 7"):
        verify_in_subprocess(bundles["onnx"])


def test_an_error_is_reported_with_the_runtimes_message(
    bundles: dict[str, Path], runtime: Callable[[str], None]
) -> None:
    runtime("raise RuntimeError('no such kernel')")
    with pytest.raises(EdgeError, match=r"does not run \(exit code 1\): .*encoder.onnx does not load \(no such kernel"):
        verify_in_subprocess(bundles["onnx"])


def test_an_artifact_that_hangs_is_given_up(bundles: dict[str, Path], runtime: Callable[[str], None]) -> None:
    runtime("time.sleep(600)")
    with pytest.raises(EdgeError, match="did not answer within 8 seconds(: stub: kernel 7)?$"):
        verify_in_subprocess(bundles["onnx"], seconds=8)


def test_run_module_ignores_modules_of_the_working_folder(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run module does not take a module of the working folder for ours."""
    for name in ("targets", "edge_stscq", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    answer, runtime = verify_in_subprocess(bundles["onnx"])
    assert len(answer.group) > 0
    assert runtime.startswith("onnxruntime ")
