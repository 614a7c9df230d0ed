"""Health and readiness: is the service alive, and does everything that it is made of work."""

from collections.abc import Mapping, Sequence

from demo_camera.service.lane import Status
from demo_camera.service.reader import State

LONGEST_STEP = 60.0
"""Seconds without a sign of life after which the worker is taken for dead."""


def unready(
    cameras: Sequence[Status], troubles: Mapping[str, str], self_test: str | None, silent_after: float
) -> list[str]:
    """Reasons for which the service does not do all of its work; none if it does.

    Args:
        troubles: as of `Notices.current`; those of cameras and spools count, those of servers and brokers pass.
        self_test: what is wrong with this device or not known yet; None if it passed.
        silent_after: seconds without a picture after which a camera counts as silent.
    """
    if self_test is not None:
        return [f"self-test: {self_test}"]
    reasons = []
    for one in cameras:
        trouble = troubles.get(f"camera {one.name}")
        if one.state is not State.ENDED and one.silence > silent_after:
            why = f"; {trouble}" if trouble else ""
            reasons.append(f"camera {one.name}: no picture for {one.silence:.0f} s{why}")
        elif one.state is State.ENDED and trouble:
            reasons.append(f"camera {one.name}: {trouble}")
        if spool := troubles.get(f"spool {one.name}"):
            reasons.append(f"spool {one.name}: {spool}")
    return reasons
