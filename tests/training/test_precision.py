import builtins
import io
from typing import Any

import pytest
import torch

from edge_stscq.errors import EdgeError
from edge_stscq.training import precision
from edge_stscq.training.options import PrecisionName
from edge_stscq.training.precision import choose_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(("single", "half", "taken"), [(2.0, 1.0, torch.bfloat16), (1.0, 2.0, torch.float32)])
def test_auto_takes_the_faster_and_says_so(
    monkeypatch: pytest.MonkeyPatch, single: float, half: float, taken: torch.dtype
) -> None:
    monkeypatch.setattr(precision, "_seconds", lambda dtype: single if dtype is torch.float32 else half)
    chosen = choose_precision(PrecisionName.AUTO, CPU)
    assert chosen.dtype is taken
    assert f"{1e3 * single:.0f} ms in float32, {1e3 * half:.0f} in bfloat16" in chosen.reason


def test_both_are_really_timed() -> None:
    assert precision._seconds(torch.float32) > 0
    assert precision._seconds(torch.bfloat16) > 0


def test_bfloat16_on_a_processor_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = open

    def fake(path: Any, *words: Any, **named: Any) -> Any:
        return io.StringIO("flags\t\t: fpu sse2 avx2\n") if path == "/proc/cpuinfo" else real(path, *words, **named)

    monkeypatch.setattr(builtins, "open", fake)
    with pytest.raises(EdgeError, match="this processor has no bfloat16.*use --precision auto or float32"):
        choose_precision(PrecisionName.BFLOAT16, CPU)


def test_autocast_is_on_for_bfloat16_only() -> None:
    x, layer = torch.randn(2, 4), torch.nn.Linear(4, 4)
    for dtype in (torch.float32, torch.bfloat16):
        with precision.Precision(dtype, "").autocast(CPU):
            assert layer(x).dtype is dtype
