"""Confinement of the decoder's process: what it decodes came from strangers, so it may do nothing but decode.

Linux alone has means that need no rights of their own: Landlock, by which a process gives up every file but those that
it names and TCP, and seccomp, by which it gives up sockets, programs and the memory of others. Both bind the threads
that are started later and not those that run, so they come first, before NumPy or PyTorch is imported; this module
imports neither. A server that is started as root can give the process another user besides, once the model is loaded.

What is left: memory, time, what the pipe to the server carries, and reading Python, its packages and the models.
"""

import ctypes
import os
import platform
import pwd
import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from edge_stscq.errors import EdgeError

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_QUERY, _PATH_BENEATH = 1, 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 2 | 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Number of kinds of access to files that each version of Landlock knows; later versions as the last."""
_NET_SINCE, _SCOPES_SINCE = 4, 6

_SET_DEATH_SIGNAL, _SET_SECCOMP, _SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_FILTER, _ALLOW, _REFUSE = 2, 0x7FFF0000, 0x00050000 | 1
_SIGKILL = 9
_REFUSED_CALLS = {
    # socket, execve, execveat, ptrace, process_vm_readv, process_vm_writev, io_uring_setup, pidfd_getfd
    "x86_64": (0xC000003E, (41, 59, 322, 101, 310, 311, 425, 438)),
    "aarch64": (0xC00000B7, (198, 221, 281, 117, 270, 271, 425, 438)),
}
"""Mark of a processor's system calls, and the numbers of those that are given up."""
_X32 = 0x40000000

_SYSTEM = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/dev/null", "/dev/urandom",
    "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system",
)  # fmt: skip


def end_with_parent() -> None:
    """End this process when the one that made it ends, also while it is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, _SIGKILL, 0, 0, 0)


def readable_paths(folders: Iterable[Path]) -> list[Path]:
    """Files and folders that a decoder of the models in `folders` has to read."""
    packages = [Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    program = Path(__file__).resolve().parents[2]
    places = [*folders, program, *packages, Path(sys.prefix) / "lib", Path(sys.base_prefix) / "lib"]
    return [path for path in (*map(Path, _SYSTEM), Path(f"/proc/{os.getpid()}"), *places) if path.exists()]


def refuse_readable(secret: Iterable[Path], folders: Sequence[Path]) -> None:
    """Refuse a place for what the decoder must not read, among what it must.

    Raises:
        EdgeError: one of `secret` lies there.
    """
    for path in secret:
        for folder in readable_paths(folders):
            if path.resolve().is_relative_to(folder.resolve()):
                raise EdgeError(f"{path} lies in {folder}, which the decoder reads; keep it elsewhere")


def confine(folders: Sequence[Path]) -> list[str]:
    """Give up what a decoder does not need, as far as this system lets it; what was done, in words.

    To be called while the process has one thread.
    """
    if sys.platform != "linux" or len(os.listdir("/proc/self/task")) > 1:
        return []
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return []
    return [done for done in (_landlock(libc, readable_paths(folders)), _seccomp(libc)) if done]


def _landlock(libc: ctypes.CDLL, readable: Sequence[Path]) -> str | None:
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_QUERY)
    if version < 1:
        return None
    files = (1 << _FILE_RIGHTS.get(version, max(_FILE_RIGHTS.values()))) - 1
    rules = struct.pack("=Q", files)
    if version >= _NET_SINCE:
        rules += struct.pack("=Q", 3)
    if version >= _SCOPES_SINCE:
        rules += struct.pack("=Q", 3)
    ruleset = libc.syscall(_CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0:
        return None
    for path in readable:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", _READ_FOLDER if path.is_dir() else _READ_FILE, parent)
        failed = libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
        os.close(parent)
        if failed:
            os.close(ruleset)
            return None
    failed = libc.syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return None if failed else f"landlock {version}"


def _seccomp(libc: ctypes.CDLL) -> str | None:
    if (known := _REFUSED_CALLS.get(platform.machine())) is None:
        return None
    mark, calls = known
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    count = len(calls)
    steps = [
        (load, 0, 0, 4), (equal, 1, 0, mark), (answer, 0, 0, _REFUSE),  # another processor's calls have other numbers
        (load, 0, 0, 0), (at_least, count + 1, 0, _X32),
        *((equal, count - number, 0, call) for number, call in enumerate(calls)),
        (answer, 0, 0, _ALLOW), (answer, 0, 0, _REFUSE),
    ]  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    return None if libc.prctl(_SET_SECCOMP, _SECCOMP_FILTER, program, 0, 0) else "seccomp"


@dataclass(frozen=True, slots=True)
class User:
    """User of this machine, looked up where that can still be read."""

    name: str
    uid: int
    gid: int

    @classmethod
    def named(cls, name: str) -> "User":
        """Raise `EdgeError` if there is no such user, it is root, or this process may not become another."""
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            raise EdgeError(f"there is no user {name}; name another --decoder-user") from None
        if found.pw_uid == 0:
            raise EdgeError("--decoder-user root would give up nothing; name another user")
        if os.getuid() != 0:
            raise EdgeError("--decoder-user needs a server that is started as root; leave it out")
        return cls(name, found.pw_uid, found.pw_gid)

    def become(self) -> str:
        """Give this process, with all its threads, the rights of the user for good; what was done, in words."""
        os.setgroups([])
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        end_with_parent()  # the system forgets it with the former user
        return f"user {self.name}"


def run_confined(
    pipe: Connection, folders: tuple[Path, ...], device: str, max_batch: int | None, user: User | None
) -> None:
    """Decode what the pipe asks for, confined, until its other end is closed."""
    end_with_parent()
    # CUDA's driver opens devices and sockets of its own at any time.
    done = [] if device == "cuda" else confine(folders)
    from edge_stscq.server.decoding.pool import work  # PyTorch, and its threads

    work(pipe, folders, device, max_batch, user, done)
