"""Seal of what a store knows of people beside their faces: names, and the coded photographs of a watch list.

A name is sealed under a key of its person, wherever it stands, also in what is noted of edits. A photograph has a key
of its own, since merging gives it to another person. Their keys lie in the key file beside those of faces, and go with
person and photograph: no older copy of the store tells a name then.
"""

import base64
import json
import logging
import struct
from collections.abc import Mapping, Sequence

from sqlalchemy import Column, Connection, select, update

from edge_stscq.sealing.cipher import Cipher, UnreadableError
from edge_stscq.server.persons.rows import Photo, read_photos
from edge_stscq.server.sealing.key_file import KeyFile
from edge_stscq.server.storage.face_store import FaceName
from edge_stscq.server.storage.tables import edit_persons, edits, enrollments, persons
from edge_stscq.server.storage.visit_rows import chunks, forget_edits, remove_empty

log = logging.getLogger(__name__)

UNREADABLE_NAME = "\N{REPLACEMENT CHARACTER}"
"""Stands for a name that no key opens."""
_PERSON, _PHOTO = b"person", b"photograph"
"""Stand in the key file where a face has its stream, which has 16 bytes."""
_NUMBER, _SIZES = struct.Struct("<q"), struct.Struct("<qqq")
_LIVE: Mapping[bytes, tuple[Column[int], ...]] = {
    _PERSON: (persons.c.id, edit_persons.c.person),
    _PHOTO: (enrollments.c.id,),
}
"""Columns by which a person, or a photograph, is still there."""


class PersonSeal:
    """Seals and opens names and photographs by the keys of a key file; safe to call from many threads.

    Whoever seals holds what writers of people hold (`visit_rows.head`), or the key could be taken for one left over.
    Every method raises `StoreError` while the key file cannot be used.
    """

    def __init__(self, keys: KeyFile) -> None:
        self._keys = keys
        self._told: set[int] = set()

    def seal_names(self, names: Mapping[int, str]) -> dict[int, str]:
        """Names by person as they lie in the store."""
        ciphers = self._keys.issue(FaceName(_PERSON, person) for person in names)
        return {
            person: base64.b64encode(
                ciphers[FaceName(_PERSON, person)].seal(name.encode(), _about_name(person))
            ).decode()
            for person, name in names.items()
        }

    def open_names(self, sealed: Mapping[int, str]) -> dict[int, str]:
        """Names by person; `UNREADABLE_NAME` for what was changed, or has no key any more."""
        ciphers = self._keys.find(FaceName(_PERSON, person) for person in sealed) if sealed else {}
        return {
            person: _opened_name(person, text, ciphers.get(FaceName(_PERSON, person)))
            for person, text in sealed.items()
        }

    def people_called(self, db: Connection, part: str) -> list[int]:
        """Persons who have this in their name, in whatever case; none of it can be asked of the database."""
        query = select(persons.c.id, persons.c.name).where(persons.c.name.is_not(None))
        names = self.open_names({person: name for person, name in db.execute(query)})
        return [person for person, name in names.items() if part.lower() in name.lower()]

    def seal_photos(self, photos: Sequence[Photo]) -> list[Photo]:
        """Photographs as they lie in the store."""
        ciphers = self._keys.issue(FaceName(_PHOTO, photo.id) for photo in photos)
        return [
            photo._replace(payload=ciphers[FaceName(_PHOTO, photo.id)].seal(photo.payload, _about_photo(photo)))
            for photo in photos
        ]

    def open_photos(self, photos: Sequence[Photo]) -> list[Photo]:
        """Photographs as they were enrolled, without those that were changed or have no key any more."""
        ciphers = self._keys.find(FaceName(_PHOTO, photo.id) for photo in photos) if photos else {}
        opened = []
        for photo in photos:
            try:
                cipher = ciphers[FaceName(_PHOTO, photo.id)]
                opened.append(photo._replace(payload=cipher.open(photo.payload, _about_photo(photo))))
            except (KeyError, UnreadableError):
                if photo.id not in self._told:
                    log.error("photograph %d of the watch list cannot be opened; enroll the person again", photo.id)
                self._told.add(photo.id)
        return opened

    def seal_all(self, db: Connection) -> None:
        """Seal all that is in the clear, in the transaction from which on the store is a sealed one."""
        named = select(persons.c.id, persons.c.name).where(persons.c.name.is_not(None))
        for person, name in self.seal_names({person: name for person, name in db.execute(named)}).items():
            db.execute(update(persons).where(persons.c.id == person).values(name=name))
        for edit, text in db.execute(select(edits.c.id, edits.c.before)).all():
            before = json.loads(text)
            noted = {one["id"]: one["name"] for one in before["persons"] if one["name"] is not None}
            sealed = self.seal_names(noted)
            before["persons"] = [one | {"name": sealed.get(one["id"])} for one in before["persons"]]
            db.execute(update(edits).where(edits.c.id == edit).values(before=json.dumps(before)))
        for photo in self.seal_photos(read_photos(db)):
            db.execute(update(enrollments).where(enrollments.c.id == photo.id).values(payload=photo.payload))

    def forget_gone(self, db: Connection) -> None:
        """Delete the keys of people and photographs that are not any more, nor in what is noted of edits."""
        gone = []
        for kind, columns in _LIVE.items():
            there: set[int] = set()
            known = self._keys.numbers(kind)
            for column in columns:
                for some in chunks(known):
                    there |= set(db.execute(select(column).where(column.in_(some))).scalars())
            gone += [FaceName(kind, number) for number in known if number not in there]
        if gone:
            self._keys.forget(gone)

    def clear_keyless(self, db: Connection, changed: int) -> None:
        """Remove names and photographs whose key is gone, as of a backup from before they were forgotten."""
        photos = {photo.id for photo in read_photos(db)} - set(self._keys.numbers(_PHOTO))
        for some in chunks(sorted(photos)):
            db.execute(enrollments.delete().where(enrollments.c.id.in_(some)))
        named = set(db.execute(select(persons.c.id).where(persons.c.name.is_not(None))).scalars())
        named |= set(db.execute(select(edit_persons.c.person)).scalars())
        for some in chunks(sorted(named - set(self._keys.numbers(_PERSON)))):
            db.execute(update(persons).where(persons.c.id.in_(some)).values(name=None, changed=changed))
            forget_edits(db, some)
        if photos:
            remove_empty(db, db.execute(select(persons.c.id)).scalars().all(), changed)


def _opened_name(person: int, text: str, cipher: Cipher | None) -> str:
    try:
        return UNREADABLE_NAME if cipher is None else cipher.open(base64.b64decode(text), _about_name(person)).decode()
    except (UnreadableError, ValueError):
        return UNREADABLE_NAME


def _about_name(person: int) -> bytes:
    return b"name of person\n" + _NUMBER.pack(person)


def _about_photo(photo: Photo) -> bytes:
    return b"photograph\n" + _SIZES.pack(photo.id, photo.layers, photo.quality) + photo.model
