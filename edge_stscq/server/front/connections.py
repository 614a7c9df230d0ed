"""Connections of a server: how many, whose, which of them wait, and which of them take nothing.

Whoever opens connections and is silent on them has shown no token, so only numbers and times can bound him. A limit
that refuses the next one would lock out everybody else; here it is the connection that has waited longest which makes
room, of the same address first: for a request, or for its client to take anything of an answer.
"""

from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

MAX_CONNECTIONS = 1000
"""Of one server."""
MAX_OF_ADDRESS = 256
"""Of one address (`address_key`)."""
HEAD_SECONDS = 10.0
"""From the start, or from the answer before, until the headers of a request are complete."""
WRITE_SECONDS = 10.0
"""In which a client must take `WRITE_BYTES` of what waits for it, or all of it."""
WRITE_BYTES = 1 << 10
MAX_UNSENT = 4 << 20
"""Bytes that may wait for one client at all."""


class Transport(Protocol):
    """The part of a transport that a connection needs."""

    def abort(self) -> None: ...

    def get_write_buffer_size(self) -> int: ...


@dataclass(slots=True)
class _Connection:
    address: str | None
    waiting_since: float | None
    unsent: int = 0
    unsent_since: float = 0.0

    @property
    def still_since(self) -> float | None:
        """Since when its client has done nothing that it should; None if the server is at work for it."""
        return self.unsent_since if self.unsent else self.waiting_since


class Connections:
    """None at first; for one event loop, by whose clock `now` is.

    Args:
        most, most_of_address: limits.
    """

    def __init__(self, most: int = MAX_CONNECTIONS, most_of_address: int = MAX_OF_ADDRESS) -> None:
        self._most, self._most_of_address = most, most_of_address
        self._open: dict[Transport, _Connection] = {}
        self._of_address: dict[str | None, int] = {}
        self._still: dict[str | None, dict[Transport, None]] = {}
        """Of each address those that stand still, the one that has for longest first; set in order by `sweep`, and kept
        in order by what happens between, since that is now."""

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, transport: Transport, address: str | None, now: float) -> bool:
        """Count a connection in, if there is or can be made room for it; it waits for its first request.

        Args:
            address: whose connections are limited together; None is limited with all others alone.
        """
        if address is not None and self._of_address.get(address, 0) >= self._most_of_address:
            there_is_room = self._make_room(address)
        else:
            there_is_room = len(self._open) < self._most or self._make_room(self._busiest())
        if there_is_room:
            self._open[transport] = _Connection(address, now)
            self._of_address[address] = self._of_address.get(address, 0) + 1
            self._still.setdefault(address, {})[transport] = None
        return there_is_room

    def _busiest(self) -> str | None:
        return max(self._of_address, key=self._of_address.__getitem__)

    def _make_room(self, address: str | None) -> bool:
        transport = next(iter(self._still.get(address, ())), None)
        if transport is None:
            return False
        self.leave(transport)
        transport.abort()
        return True

    def leave(self, transport: Transport) -> None:
        """Count a connection out; one that was never let in is no matter."""
        gone = self._open.pop(transport, None)
        if gone is not None:
            self._still.get(gone.address, {}).pop(transport, None)
            self._of_address[gone.address] -= 1
            if not self._of_address[gone.address]:
                del self._of_address[gone.address]
                self._still.pop(gone.address, None)

    def set_waiting(self, transport: Transport, since: float | None) -> None:
        """Note that a connection waits for a request, since when; None while one is under way."""
        if (connection := self._open.get(transport)) is not None:
            connection.waiting_since = since
            still = self._still.setdefault(connection.address, {})
            still.pop(transport, None)
            if since is not None:
                still[transport] = None

    def sweep(self, now: float) -> None:
        """Cut what has waited or stood still for too long; to be called about once a second."""
        for transport, connection in list(self._open.items()):
            since = connection.waiting_since
            if (since is not None and now - since > HEAD_SECONDS) or self._stands(transport, connection, now):
                transport.abort()
        found = [(since, one) for one in self._open if (since := self._open[one].still_since) is not None]
        self._still = {}
        for _, transport in sorted(found, key=itemgetter(0)):
            self._still.setdefault(self._open[transport].address, {})[transport] = None

    def _stands(self, transport: Transport, connection: _Connection, now: float) -> bool:
        unsent = transport.get_write_buffer_size()
        if not (unsent and connection.unsent) or unsent + WRITE_BYTES <= connection.unsent:
            connection.unsent, connection.unsent_since = unsent, now
        connection.unsent = max(connection.unsent, unsent)
        return unsent > MAX_UNSENT or (unsent > 0 and now - connection.unsent_since > WRITE_SECONDS)

    def abort_all(self) -> None:
        """Cut every connection."""
        for transport in list(self._open):
            transport.abort()
