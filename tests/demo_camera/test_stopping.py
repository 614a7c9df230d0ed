"""Signals call what ends the source, once; what the process ignored stays ignored."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from demo_camera.stopping import StopSignals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signals as they were, whatever a test does."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_the_source_and_no_more(number: signal.Signals) -> None:
    called: list[int] = []
    before = signal.getsignal(number)
    with StopSignals(lambda: called.append(1)) as signals:
        os.kill(os.getpid(), number)
        assert (called, signals.asked) == ([1], number)
        assert signal.getsignal(number) == before, "the second one ends the process"
    assert signals.exit_code(live=False) == 128 + number
    assert signals.exit_code(live=True) == (128 + number if number == signal.SIGHUP else 0)


def test_without_a_signal_all_is_as_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals(lambda: None) as signals:
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    assert (signals.asked, signals.exit_code(live=False)) == (None, 0)


def test_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopSignals(lambda: None) as signals:
        os.kill(os.getpid(), signal.SIGHUP)
    assert signals.asked is None
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_other_threads_leave_signals_alone() -> None:
    failures: list[BaseException] = []
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        try:
            with StopSignals(lambda: None):
                assert signal.getsignal(signal.SIGTERM) == before
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
