"""Words to systemd (sd_notify(3)): ready, alive, ending. Without systemd they go nowhere."""

import os
import socket


def notify(*lines: str) -> None:
    """Send lines such as "READY=1" to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or not hasattr(socket, "AF_UNIX"):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        try:
            channel.sendto("\n".join(lines).encode(), address)
        except OSError:
            return  # a manager that does not listen does not hold up cameras


def watchdog_period() -> float | None:
    """Seconds in which systemd waits for a sign of life; None if it does not."""
    given, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not given.isdecimal() or int(given) == 0 or process not in (None, str(os.getpid())):
        return None
    return int(given) / 1e6
