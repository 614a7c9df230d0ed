"""The decoder's process can open neither store nor tokens nor a socket, and no program."""

import contextlib
import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding import confinement
from edge_stscq.server.decoding.worker import DecoderProcess

REQUIRED = os.environ.get("EDGE_STSCQ_REQUIRE") == "1"
pytestmark = pytest.mark.skipif(sys.platform != "linux" and not REQUIRED, reason="confinement is Linux's")


def attempts(folder: Path, port: int) -> dict[str, Callable[[], object]]:
    """First steps of an attacker who took the decoder over."""
    store, tokens = folder / "faces.db", folder / "tokens.db"
    return {
        "read store": lambda: store.read_bytes(),
        "read tokens": lambda: tokens.read_bytes(),
        "list folder": lambda: [*folder.iterdir()],
        "write store": lambda: store.open("r+b"),
        "truncate store": lambda: os.truncate(store, 0),
        "remove store": lambda: store.unlink(),
        "make file": lambda: (folder / "new").touch(),
        "read passwords": lambda: Path("/etc/passwd").read_text(),
        "TCP": lambda: socket.create_connection(("127.0.0.1", port), timeout=5),
        "UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "Unix socket": lambda: socket.socket(socket.AF_UNIX),
        "run a program": lambda: subprocess.run(["/bin/true"], check=True),
        "signal the server": lambda: os.kill(os.getppid(), 0),
        "read the server's memory": lambda: Path(f"/proc/{os.getppid()}/mem").open("rb"),
    }


def try_all(pipe: Connection, folder: Path, port: int) -> None:
    """In a process of its own: what was given up, and the attempts that succeeded."""
    done, succeeded = confinement.confine([]), []
    for name, attempt in attempts(folder, port).items():
        with contextlib.suppress(OSError):
            attempt()
            succeeded.append(name)
    pipe.send((done, succeeded))


def test_confined_process_reaches_nothing(tmp_path: Path) -> None:
    for name in ("faces.db", "tokens.db"):
        (tmp_path / name).write_bytes(b"secret")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours, theirs = multiprocessing.Pipe()
        arguments = (theirs, tmp_path, listener.getsockname()[1])
        process = multiprocessing.get_context("spawn").Process(target=try_all, args=arguments)
        process.start()
        assert ours.poll(60)
        done, succeeded = ours.recv()
        process.join(60)
    if not done and not REQUIRED:
        pytest.skip("this kernel has neither Landlock nor seccomp; EDGE_STSCQ_REQUIRE=1 makes this a failure")
    assert succeeded == []
    assert (tmp_path / "faces.db").read_bytes() == b"secret"


def test_decoder_says_what_it_has_given_up(tiny_model: Path) -> None:
    with contextlib.closing(DecoderProcess([tiny_model], "cpu")) as decoder:
        decoder.wait_until_ready()
        assert decoder.confinement != "none" or not REQUIRED
        status = Path(f"/proc/{decoder.pid}/status").read_text()
        if "seccomp" in decoder.confinement:
            assert "NoNewPrivs:\t1" in status
            for task in Path(f"/proc/{decoder.pid}/task").iterdir():  # threads that libraries start, too
                assert "Seccomp:\t2" in (task / "status").read_text()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give another user's rights")
def test_decoder_of_another_user(tiny_model: Path) -> None:
    with contextlib.closing(DecoderProcess([tiny_model], "cpu", user="nobody")) as decoder:
        decoder.wait_until_ready()
        assert decoder.confinement.startswith("user nobody")
        for task in Path(f"/proc/{decoder.pid}/task").iterdir():
            lines = (task / "status").read_text().splitlines()
            ids = [number for line in lines if line[:4] in ("Uid:", "Gid:") for number in line.split()[1:]]
            assert "0" not in ids


@pytest.mark.parametrize(("user", "message"), [("root", "give up nothing"), ("no-such-user", "there is no user")])
def test_decoder_user_refused(user: str, message: str) -> None:
    with pytest.raises(EdgeError, match=message):
        confinement.User.named(user)


def test_store_among_what_the_decoder_reads_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    confinement.refuse_readable([tmp_path / "faces.db"], [model])
    with pytest.raises(EdgeError, match=r"faces\.db lies in .*model, which the decoder reads; keep it elsewhere"):
        confinement.refuse_readable([model / "deep" / "faces.db"], [model])
