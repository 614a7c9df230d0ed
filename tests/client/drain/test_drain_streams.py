"""Whatever becomes of cards and tools, a spool's numbers never meet another's."""

import threading
from pathlib import Path

import httpx2
import pytest

from edge_stscq.client.drain import Drain
from edge_stscq.client.sender import Sender
from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from edge_stscq.stream import FrameCodec
from edge_stscq.stream.envelope import CapturedFace, stream_id
from edge_stscq.stream.wire import write_stream
from tests.client.face_server import FaceServer
from tests.client.filled import captured, coded, fill

Made = list[CapturedFace]


def test_a_card_that_is_swapped_never_conflicts(tmp_path: Path, server: FaceServer, made: Made) -> None:
    """Each card begins again at number 0 under the same device name, some in the middle of being drained."""
    streams: dict[bytes, Made] = {}
    for card in range(4):
        faces = made[10 * card : 10 * card + 10]
        with Spool(tmp_path / f"card-{card}", "cam") as spool, server.sender(attempts=1) as sender:
            assert fill(spool, faces) == list(range(10))
            server.script = [200, 200, 503] if card % 2 else []
            drain = Drain(spool, sender, batch=4)
            if card % 2:
                with pytest.raises(EdgeError, match="gave up"):
                    drain.run()
            else:
                drain.run()
            assert spool.refusals() == []
            streams[spool.stream_id] = faces
    assert len(streams) == 4
    for card in (1, 3):
        with Spool(tmp_path / f"card-{card}") as spool, server.sender() as sender:
            Drain(spool, sender).run()
    for stream, faces in streams.items():
        assert server.holds(stream, dict(enumerate(faces)))
    assert len(server.store.page(0, 99)) == 40
    results = {result for _, result in server.store.results}
    assert results == {"stored", "extended"}


def test_two_spools_of_one_device_are_drained_at_once(tmp_path: Path, server: FaceServer, made: Made) -> None:
    faces = {"one": made[:30], "other": made[30:]}
    streams: dict[str, bytes] = {}
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            with Spool(tmp_path / name, "cam") as spool, server.sender() as sender:
                streams[name] = spool.stream_id
                for start in range(0, 30, 5):
                    fill(spool, faces[name][start : start + 5])
                    Drain(spool, sender, batch=3).run()
                assert (spool.refusals(), spool.status().delivered) == ([], 30)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in faces]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for name, stream in streams.items():
        assert server.holds(stream, dict(enumerate(faces[name])))


def test_who_knows_an_id_cannot_write_into_its_stream(
    spool: Spool, server: FaceServer, codec: FrameCodec, made: Made
) -> None:
    """Neither with the id for a key, nor by version 1 under the id as a device's name."""
    fill(spool, made[:1])
    with server.sender() as sender:
        Drain(spool, sender).run()
    (stored,) = server.store.page(0, 9)
    known = spool.stream_id
    with pytest.raises(EdgeError, match="another stream than the key"):
        write_stream([stored.frame()], known)
    with server.sender() as sender:
        sender.send_frames(made[1].frames(stream_id(known), "cam", 0)[1:], known)
    with Sender("http://edge.test", known.hex(), transport=httpx2.MockTransport(server)) as sender:
        sender.send_version_1(codec.header(), [codec.encode_frame(coded(codec, 2)[1])], 0)
    assert server.holds(known, {0: made[0]})
    assert len({row.stream for row in server.store.page(0, 9)}) == 3
    assert server.store.find(f"{known.hex()}-0") == stored


def test_a_spool_that_was_copied_back_is_told_of_the_numbers_that_are_taken(
    path: Path, server: FaceServer, codec: FrameCodec, made: Made
) -> None:
    """A card image from before: what it numbers again is another face, which is set aside, and what is new goes."""
    with Spool(path, "cam") as spool:
        fill(spool, made[:3])
        stream = spool.stream_id
    image = path.read_bytes()
    with Spool(path) as spool, server.sender() as sender:
        fill(spool, made[3:5])
        Drain(spool, sender).run()
    path.write_bytes(image)
    later = [captured(codec, n) for n in range(100, 104)]
    with Spool(path) as spool, server.sender() as sender:
        assert fill(spool, later) == [3, 4, 5, 6]
        drain = Drain(spool, sender)
        drain.run()
        assert [(one.number, one.code) for one in spool.refusals()] == [(3, "conflict"), (4, "conflict")]
        assert drain.report.duplicate == 6
    assert server.holds(stream, {**dict(enumerate(made[:5])), 5: later[2], 6: later[3]})
