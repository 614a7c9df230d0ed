"""A fresh process that crashes, hangs or complains is reported with what the runtime said."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_stscq.errors import EdgeError
from targets.check import run_fresh

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
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return stub


def test_a_crash_is_reported_with_its_signal_and_the_runtimes_message(
    bundles: dict[str, Path], runtime: Callable[[str], None]
) -> None:
    runtime("os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(EdgeError, match=r"killed the process that ran it \(SIGSEGV\): stub: kernel 7"):
        run_fresh(bundles["onnx"])


def test_an_error_is_reported_with_the_runtimes_message(
    bundles: dict[str, Path], runtime: Callable[[str], None]
) -> None:
    runtime("raise RuntimeError('no such kernel')")
    with pytest.raises(EdgeError, match=r"does not run \(exit code 1\): .*encoder.onnx does not load \(no such kernel"):
        run_fresh(bundles["onnx"])


def test_an_artefact_that_hangs_is_given_up(bundles: dict[str, Path], runtime: Callable[[str], None]) -> None:
    runtime("time.sleep(600)")
    with pytest.raises(EdgeError, match="did not answer within 8 seconds(: stub: kernel 7)?$"):
        run_fresh(bundles["onnx"], seconds=8)
