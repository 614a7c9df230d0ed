"""Names and photographs of a sealed store: read with the key alone, and with no key once a person is forgotten."""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.maintenance.backup import backup_store, restore_store
from edge_stscq.server.maintenance.inspection import inspect_store, repair_store
from edge_stscq.server.persons.editing import PersonStore
from edge_stscq.server.persons.grouping import Grouper
from edge_stscq.server.persons.reading import Enrolled
from edge_stscq.server.sealing.conversion import seal_store
from edge_stscq.server.sealing.face_seal import FaceSeal
from edge_stscq.server.sealing.key_file import KeyFile, rotate
from edge_stscq.server.sealing.person_seal import UNREADABLE_NAME
from edge_stscq.server.storage.database import StoreError
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from tests.server.conftest import MakeFaces
from tests.support.models.match_rules import rule_of
from tests.support.stored_faces import NOON, Camera, accept

SECRET = b"0123456789abcdef0123456789abcdef"
PHOTO = b"a coded photograph that nobody must find"
NAMES = ("Zebulon", "Xanthippe")


class House:
    """A store with two people of one visit each, and the model that it is grouped by."""

    def __init__(self, folder: Path, entry: CatalogEntry, make_faces: MakeFaces) -> None:
        self.store, self.keys = folder / "faces.db", folder / "apart.db"
        self.entry = replace(entry, rule=rule_of(entry.model_id.hex(), entry.config.layer_names, None, 0.9, 0.8))
        self.camera, self.faces = Camera(entry.codec), make_faces(3)

    @property
    def seal(self) -> FaceSeal:
        return FaceSeal(KeyFile(self.keys, SECRET))

    def see(self, store: SqlFaceStore, *faces: int) -> Grouper:
        frames = [self.camera.frame(self.faces[face], face, NOON + 10**6 * face, track=face) for face in faces]
        accept(store, frames, same=lambda *_: True)
        grouper = Grouper(store, [self.entry], 60.0)
        while grouper.step():
            pass
        return grouper

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[SqlFaceStore, PersonStore]]:
        with contextlib.closing(SqlFaceStore(self.store, self.seal)) as store:
            yield store, PersonStore(store)

    def enroll(self, people: PersonStore, name: str, payload: bytes = PHOTO) -> int:
        return people.enroll(name, [Enrolled(self.entry.model_id, 3, payload, 80)]).person

    def raw(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.store.parent.glob("faces.db*"))


@pytest.fixture
def house(tmp_path: Path, entry: CatalogEntry, make_faces: MakeFaces) -> House:
    made = House(tmp_path, entry, make_faces)
    seal_store(made.store, made.keys, SECRET)
    return made


def names(people: PersonStore) -> dict[int, str | None]:
    return {row.id: row.name for row in people.persons(99)}


def test_people_of_a_sealed_store_are_edited_as_in_the_clear(house: House) -> None:
    with house.open() as (store, people):
        house.see(store, 0, 1)
        first, second = sorted(names(people))
        people.name(first, "Zebulon")
        assert names(people) == {first: "Zebulon", second: None}
        assert people.owners([first])[first].name == "Zebulon"
        assert [row.name for row in people.changes(0).persons if row.id == first] == ["Zebulon"]
        merged = people.merge(second, [first])
        assert names(people) == {second: "Zebulon"}
        people.undo(merged.edit)
        assert names(people) == {first: "Zebulon", second: None}
        people.name(first, "Xanthippe")
        assert [row.id for row in people.persons(9, part="THIPP")] == [first]
        assert people.persons(9, part="zeb") == []
        people.undo()
        assert people.person(first).name == "Zebulon"
    assert not [name for name in NAMES if name.encode() in house.raw()]


def test_watch_list_of_a_sealed_store_knows_its_people(house: House) -> None:
    payload = house.entry.codec.payload(house.faces[0])
    with house.open() as (store, people):
        person = house.enroll(people, "Zebulon", payload)
        assert house.enroll(people, "Zebulon", payload) == person, "found by the name"
        grouper = house.see(store, 0, 1)
        verdicts = {visit.track: grouper.watch(visit.id) for visit in people.visits(9)}
        assert verdicts == {0: "known", 1: "unknown"}
    raw = house.raw()
    assert payload not in raw
    assert b"Zebulon" not in raw


def test_sealing_a_store_seals_its_people(tmp_path: Path, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    house = House(tmp_path, entry, make_faces)
    with contextlib.closing(SqlFaceStore(house.store)) as store:
        people = PersonStore(store)
        house.see(store, 0)
        (person,) = names(people)
        people.name(person, "Zebulon")
        edit = people.name(person, "Xanthippe").edit
        enrolled = house.enroll(people, "Zebulon")
        assert b"Zebulon" in house.raw()
        seal_store(house.store, house.keys, SECRET)
        with pytest.raises(StoreError, match="sealed meanwhile"):
            people.name(person, "Zebulon")
    raw = house.raw()
    assert not [text for text in (b"Zebulon", b"Xanthippe", PHOTO[:16]) if text in raw]
    with house.open() as (_, people):
        assert names(people) == {person: "Xanthippe", enrolled: "Zebulon"}
        people.undo(edit)
        assert people.person(person).name == "Zebulon"


@pytest.mark.parametrize("enrolled", [False, True])
def test_forgotten_person_is_read_from_no_backup(house: House, tmp_path: Path, enrolled: bool) -> None:
    with house.open() as (store, people):
        if enrolled:
            person = house.enroll(people, "Zebulon")
        else:
            house.see(store, 0)
            (person,) = names(people)
            people.name(person, "Zebulon")
        stays = house.enroll(people, "Xanthippe")
        backup_store(house.store, tmp_path / "copy.db", house.seal)
        before = len(house.seal.keys)
        people.forget(person)
        assert before - len(house.seal.keys) == 2, "of name and photograph, or of name and face"
    assert inspect_store(tmp_path / "copy.db", seal=house.seal).problems == []
    with contextlib.closing(SqlFaceStore(tmp_path / "copy.db", house.seal)) as copy:
        assert names(PersonStore(copy)) == {person: UNREADABLE_NAME, stays: "Xanthippe"}
    restore_store(tmp_path / "copy.db", house.store, house.seal)
    with house.open() as (_, people):
        assert names(people) == {stays: "Xanthippe"}


def test_keys_of_people_go_with_undone_enrollments_and_last_faces(house: House) -> None:
    with house.open() as (store, people):
        house.see(store, 0)
        (person,) = names(people)
        people.name(person, "Zebulon")
        edit = people.enroll("Xanthippe", [Enrolled(house.entry.model_id, 3, PHOTO, 80)]).edit
        people.undo(edit)
        assert house.seal.keys.numbers(b"photograph") == []
        assert person in house.seal.keys.numbers(b"person")
        visit = people.visits(9)[0]
        store.erase([member.name for member in visit.members])
        assert person not in house.seal.keys.numbers(b"person")


@pytest.mark.parametrize("change", ["name = 'Zebulon'", "name = (SELECT name FROM persons WHERE id > {0})"])
def test_name_that_was_changed_or_moved_is_unreadable(house: House, change: str) -> None:
    with house.open() as (_, people):
        first, second = house.enroll(people, "Zebulon"), house.enroll(people, "Xanthippe")
    with contextlib.closing(sqlite3.connect(house.store)) as db, db:
        db.execute(f"UPDATE persons SET {change.format(first)} WHERE id = {first}")
    with house.open() as (_, people):
        assert names(people) == {first: UNREADABLE_NAME, second: "Xanthippe"}
    assert inspect_store(house.store, seal=house.seal).problems == [
        f"the name of person {first} was changed; name the person again"
    ]
    with house.open() as (_, people):
        people.name(first, "Zebulon")
    assert inspect_store(house.store, seal=house.seal).whole


def test_photograph_that_was_changed_knows_nobody(house: House, caplog: pytest.LogCaptureFixture) -> None:
    payload = house.entry.codec.payload(house.faces[0])
    with house.open() as (_, people):
        house.enroll(people, "Zebulon", payload)
    with contextlib.closing(sqlite3.connect(house.store)) as db, db:
        db.execute("UPDATE enrollments SET layers = 1")
    with house.open() as (store, people):
        grouper = house.see(store, 0)
        assert grouper.watch(people.visits(9)[0].id) is None
    assert caplog.text.count("of the watch list cannot be opened") == 1
    (problem,) = inspect_store(house.store, seal=house.seal).problems
    assert problem.startswith("a photograph of person ")


def test_rotation_and_repair_keep_names(house: House) -> None:
    other = SECRET[::-1]
    with house.open() as (store, people):
        house.see(store, 0)
        (person,) = names(people)
        people.name(person, "Zebulon")
        stays = house.enroll(people, "Xanthippe")
    repair_store(house.store, seal=house.seal)
    rotate(house.keys, SECRET, other)
    with contextlib.closing(SqlFaceStore(house.store, FaceSeal(KeyFile(house.keys, other)))) as store:
        assert names(PersonStore(store)) == {person: "Zebulon", stays: "Xanthippe"}
