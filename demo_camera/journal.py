"""Journal of the faces that a spool was given, so that a folder may be captured again and adds nothing twice.

A face is known by its content: crop, model and time of capture. The same picture gives the same crop, wherever it lies
and whatever it is called; the journal keeps 16 bytes of a hash of each, from which nothing of the face can be had. It
lies beside its spool, as NAME.taken, and belongs to that spool's stream: with another spool it begins anew.

A face is put first and noted then. Who is killed between the two has that one face twice, and none is lost.
"""

import hashlib
import os
from pathlib import Path

from demo_camera.results import Capture
from edge_stscq._files import write_file
from edge_stscq.errors import EdgeError

MOST = 1 << 18
"""Faces that are remembered, 4 MB; beyond them, the older half is forgotten."""
_BYTES = 16


class Journal:
    """Open the journal at `path`, or begin it.

    Args:
        stream: id of the spool's stream, 16 bytes.

    Raises:
        EdgeError: it cannot be read or written.

    Example:
        >>> journal = Journal.beside(spool_path, spool.stream_id)
        >>> if not journal.knows(capture):
        ...     spool.put(capture.coded)
        ...     journal.add(capture)
    """

    def __init__(self, path: Path, stream: bytes) -> None:
        self._path, self._stream = path, stream
        try:
            data = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise EdgeError(f"cannot read {path}: {error.strerror}; check its rights") from None
        whole = len(data) - len(data) % _BYTES  # the last one may be torn by a power cut
        own = data[:_BYTES] == stream
        self._known = dict.fromkeys(data[at : at + _BYTES] for at in range(_BYTES, whole, _BYTES)) if own else {}
        if not own or whole != len(data) or len(self._known) > MOST:
            self._rewrite()

    @classmethod
    def beside(cls, spool: Path, stream: bytes) -> "Journal":
        """The journal of the spool at a path."""
        return cls(spool.with_name(f"{spool.name}.taken"), stream)

    def knows(self, capture: Capture) -> bool:
        """Tell if this face was put into the spool before."""
        return _digest(capture) in self._known

    def add(self, capture: Capture) -> None:
        """Note that this face is in the spool.

        Raises:
            EdgeError: the disk is full or gone.
        """
        digest = _digest(capture)
        self._known[digest] = None
        if len(self._known) > MOST:
            self._rewrite()
            return
        try:
            number = os.open(self._path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(number, digest)
                os.fsync(number)
            finally:
                os.close(number)
        except OSError as error:
            raise EdgeError(f"cannot write {self._path}: {error.strerror}; check the folder and its space") from None

    def _rewrite(self) -> None:
        if len(self._known) > MOST:
            self._known = dict.fromkeys(list(self._known)[-MOST // 2 :])
        write_file(self._path, b"".join((self._stream, *self._known)), private=True)


def _digest(capture: Capture) -> bytes:
    made = hashlib.blake2b(capture.coded.model_id, digest_size=_BYTES)
    made.update(str(capture.coded.captured_ms).encode())
    made.update(capture.crop.tobytes())
    return made.digest()
