"""Seal of a face store: what stands in a row instead of a face's payload, extensions and checksum.

Each is sealed under the face's own data key, about all else that the row says of the face: stream, number, times,
device, model. A row that is put under another name, or changed, is unreadable. The checksum is sealed with the payload,
since it would tell which of two guesses at a face is right.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

from edge_stscq._secrets import read_secret
from edge_stscq.errors import EdgeError
from edge_stscq.sealing.cipher import Cipher, UnreadableError
from edge_stscq.server.sealing.key_file import KeyFile
from edge_stscq.server.sealing.person_seal import PersonSeal
from edge_stscq.server.storage.database import sibling_path
from edge_stscq.server.storage.face_store import KEYLESS, UNREADABLE, FaceName, StoredFace

_CHECKSUM = struct.Struct("<q")
_ABOUT = struct.Struct("<qqdqqqqq")
_NONE = -1


class FaceSeal:
    """Seals and opens faces by the keys of a key file; safe to call from many threads.

    Attributes:
        id: of the key file, 16 bytes; its store has it, too.
        people: seals names, and photographs of the watch list.

    Example:
        >>> seal = FaceSeal(KeyFile(Path("keys.db"), read_secret("file:store.secret")))
        >>> store = SqlFaceStore("faces.db", seal)
    """

    def __init__(self, keys: KeyFile) -> None:
        self.keys, self.id, self.people = keys, keys.id, PersonSeal(keys)

    def seal_many(self, faces: Sequence[StoredFace]) -> list[StoredFace]:
        """The faces as they lie in the store; those that have no key get one, which is durable when this returns.

        Raises:
            StoreError: the key file cannot be used.
        """
        ciphers = self.keys.issue(_name(face) for face in faces)
        return [_sealed(face, ciphers[_name(face)]) for face in faces]

    def open_many(self, faces: Sequence[StoredFace]) -> list[StoredFace]:
        """The faces as they were sent; one that cannot be opened has no payload, and a checksum that says why.

        Raises:
            StoreError: the key file cannot be used.
        """
        ciphers = self.keys.find(_name(face) for face in faces) if faces else {}
        return [_opened(face, ciphers.get(_name(face))) for face in faces]


def open_seal(source: str | None, keys: Path | None, place: Path | str) -> FaceSeal | None:
    """The seal of the store at `place`, None if no source of its secret is given.

    Args:
        source: of the secret, see `read_secret`.
        keys: the key file; keys.db beside the store if None.

    Raises:
        EdgeError: the secret or the key file cannot be used, or a key file is given without a secret.
    """
    if source is None:
        if keys is not None:
            raise EdgeError("--seal-keys is of no use without its secret; give --seal file:PATH, too")
        return None
    return FaceSeal(KeyFile(key_path(keys, place), read_secret(source)))


def key_path(keys: Path | None, place: Path | str) -> Path:
    """The key file of a store: the one that is given, or keys.db beside the store."""
    return keys or sibling_path(place, "keys.db")


def refuse_index_on_disk(seal: object | None, what: str) -> None:
    """Refuse an index that would keep match vectors of a sealed store on a disk.

    Args:
        seal: of the store, None if it is not sealed.
        what: names the index, as its setting does.

    Raises:
        EdgeError: the store is sealed.
    """
    if seal is not None:
        raise EdgeError(
            f"{what} would lay match vectors of a sealed store on a disk in the clear; leave the index in memory"
        )


def _name(face: StoredFace) -> FaceName:
    return FaceName(face.stream, face.sequence)


def _about(face: StoredFace, what: bytes) -> bytes:
    """All that a row says of a face in the clear, unambiguously."""
    parts = face.stream, face.device.encode(), face.model, face.coder
    numbers = _ABOUT.pack(
        face.sequence, _NONE if face.captured_ms is None else face.captured_ms, face.received, face.kind, face.clock,
        face.layers, _NONE if face.track is None else face.track, _NONE if face.quality is None else face.quality,
    )  # fmt: skip
    return b"".join((what, numbers, *(len(part).to_bytes(4, "little") + part for part in parts)))


def _sealed(face: StoredFace, cipher: Cipher) -> StoredFace:
    payload = cipher.seal(_CHECKSUM.pack(face.checksum) + face.payload, _about(face, b"face\n"))
    extensions = cipher.seal(face.extensions, _about(face, b"extensions\n")) if face.extensions else b""
    return face._replace(payload=payload, extensions=extensions, checksum=0)


def _opened(face: StoredFace, cipher: Cipher | None) -> StoredFace:
    if cipher is None:
        return face._replace(payload=b"", extensions=b"", checksum=KEYLESS)
    try:
        text = cipher.open(face.payload, _about(face, b"face\n"))
        extensions = cipher.open(face.extensions, _about(face, b"extensions\n")) if face.extensions else b""
    except UnreadableError:
        return face._replace(payload=b"", extensions=b"", checksum=UNREADABLE)
    (checksum,) = _CHECKSUM.unpack_from(text)
    return face._replace(payload=text[_CHECKSUM.size :], extensions=extensions, checksum=checksum)
