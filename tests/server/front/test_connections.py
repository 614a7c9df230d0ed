"""Connections of a server: who makes room for whom, and what is cut."""

from edge_stscq.server.front.connections import (
    HEAD_SECONDS,
    MAX_UNSENT,
    WRITE_BYTES,
    WRITE_SECONDS,
    Connections,
)


class FakeTransport:
    def __init__(self) -> None:
        self.aborted, self.unsent = False, 0

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unsent


def admitted(connections: Connections, address: str | None, count: int, now: float = 0.0) -> list[FakeTransport]:
    transports = [FakeTransport() for _ in range(count)]
    assert all(connections.admit(each, address, now + number) for number, each in enumerate(transports))
    return transports


def test_connections_longest_waiting_of_an_address_makes_room() -> None:
    connections = Connections(most=10, most_of_address=3)
    other = admitted(connections, "192.0.2.1", 1)
    many = admitted(connections, "192.0.2.7", 3)
    connections.set_waiting(many[0], None)
    admitted(connections, "192.0.2.7", 1, now=9)
    assert [each.aborted for each in (*many, *other)] == [False, True, False, False]
    assert len(connections) == 4


def test_connections_address_with_most_makes_room_when_all_are_taken() -> None:
    connections = Connections(most=5, most_of_address=4)
    few, many = admitted(connections, "2001:db8::/64", 1), admitted(connections, "192.0.2.7", 4, now=5)
    admitted(connections, "198.51.100.1", 1, now=20)
    assert not few[0].aborted
    assert [each.aborted for each in many] == [True, False, False, False]


def test_connections_refused_when_all_are_at_work() -> None:
    connections = Connections(most=3, most_of_address=3)
    for each in admitted(connections, "192.0.2.7", 3):
        connections.set_waiting(each, None)
    for address in ("192.0.2.7", "198.51.100.1"):
        assert not connections.admit(FakeTransport(), address, 1)
    assert len(connections) == 3


def test_connections_whose_client_reads_nothing_make_room() -> None:
    connections = Connections(most=10, most_of_address=3)
    works, stuck, reads = admitted(connections, "192.0.2.7", 3)
    for each in (works, stuck, reads):
        connections.set_waiting(each, None)
    stuck.unsent = reads.unsent = 80_000
    for second in range(1, 4):
        connections.sweep(second)
        reads.unsent -= 2 * WRITE_BYTES
    admitted(connections, "192.0.2.7", 1, now=4)
    assert (works.aborted, stuck.aborted, reads.aborted) == (False, True, False)


def test_connections_of_a_named_proxy_are_limited_in_all_alone() -> None:
    connections = Connections(most=6, most_of_address=2)
    behind = admitted(connections, None, 6)
    assert not any(each.aborted for each in behind)
    connections.leave(behind[0])
    connections.leave(behind[0])
    assert len(connections) == 5
    admitted(connections, None, 2, now=10)
    assert [each.aborted for each in behind] == [False, True, *[False] * 4]


def test_sweep_cuts_what_waits_and_not_what_works() -> None:
    connections = Connections()
    silent, works = admitted(connections, "192.0.2.7", 2)
    connections.set_waiting(works, None)
    connections.sweep(HEAD_SECONDS)
    assert not silent.aborted
    connections.sweep(HEAD_SECONDS + 0.1)
    assert (silent.aborted, works.aborted) == (True, False)
    connections.set_waiting(works, 100)
    connections.sweep(101 + HEAD_SECONDS)
    assert works.aborted


def test_sweep_cuts_a_write_that_stands_still() -> None:
    connections = Connections()
    stuck, slow, greedy = admitted(connections, "192.0.2.7", 3)
    for each in (stuck, slow, greedy):
        connections.set_waiting(each, None)
    stuck.unsent, slow.unsent, greedy.unsent = 5000, 80_000, MAX_UNSENT + 1
    for second in range(int(WRITE_SECONDS) + 3):
        connections.sweep(second)
        slow.unsent -= WRITE_BYTES // 5
        stuck.unsent += 10  # what is written more is not what it takes
    assert (stuck.aborted, slow.aborted, greedy.aborted) == (True, False, True)
    slow.unsent = 0
    connections.sweep(100)
    slow.unsent = 10
    connections.sweep(200)
    assert not slow.aborted
