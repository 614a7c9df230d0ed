"""A test that lacks what it needs is skipped by itself and fails where everything is required."""

import sys
from collections.abc import Callable

import pytest

from tests.support.installed import need_module, need_package, need_program


def test_need_finds_what_is_there() -> None:
    assert need_module("json", "none").__name__ == "json"
    assert need_program(sys.executable, "none").exists()


@pytest.mark.parametrize("need", [need_module, need_package, need_program])
def test_need_skips_what_is_absent(need: Callable[[str, str], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_STSCQ_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no_such_thing is not installed; do this"):
        need("no_such_thing", "do this")


@pytest.mark.parametrize("need", [need_module, need_package, need_program])
def test_need_fails_for_what_is_absent_where_it_is_required(
    need: Callable[[str, str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_STSCQ_REQUIRE", "1")
    with pytest.raises(pytest.fail.Exception, match="EDGE_STSCQ_REQUIRE=1"):
        need("no_such_thing", "do this")
