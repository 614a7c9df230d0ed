"""Faces become visits and visits persons, once, whoever groups them, and nothing of an erased face stays."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.maintenance.inspection import repair_store
from edge_stscq.server.persons.edit_log import UndoError
from edge_stscq.server.persons.editing import PersonStore
from edge_stscq.server.persons.grouping import Grouper
from edge_stscq.server.persons.likeness import Likeness
from edge_stscq.server.persons.reading import Enrolled, NoPersonError
from edge_stscq.server.persons.rows import PersonRow
from edge_stscq.server.storage.face_store import FaceName
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.envelope import Kind
from edge_stscq.stream.face import CodedFace
from tests.server.conftest import MakeFaces
from tests.server.persons.beside import group_beside_another
from tests.support.models.match_rules import rule_of
from tests.support.stored_faces import NOON, Camera, accept

OpenStore = Callable[[Path | str], SqlFaceStore]
GAP = 60.0


@pytest.fixture
def judged(entry: CatalogEntry) -> CatalogEntry:
    """The tiny model with thresholds: equal faces are one person's, drawn ones are strangers."""
    return replace(entry, rule=rule_of(entry.model_id.hex(), entry.config.layer_names, None, 0.9, 0.8))


@pytest.fixture
def store(place: str, open_store: OpenStore) -> SqlFaceStore:
    return open_store(place)


@pytest.fixture
def camera(entry: CatalogEntry) -> Camera:
    return Camera(entry.codec)


def see(store: SqlFaceStore, camera: Camera, face: CodedFace, number: int, seconds: float = 0, **more: object) -> None:
    """Store one face."""
    accept(store, [camera.frame(face, number, NOON + round(1000 * seconds), **more)], same=lambda *_: True)


def group(*groupers: Grouper) -> None:
    while any([one.step() for one in groupers]):
        pass


def partition(store: SqlFaceStore) -> list[list[list[int]]]:
    """Numbers of the faces, by visit and person."""
    people = PersonStore(store)
    found: dict[int, list[list[int]]] = {}
    for visit in people.visits(1000):
        found.setdefault(visit.person, []).append(sorted(member.name.number for member in visit.members))
    return sorted(sorted(visits) for visits in found.values())


@pytest.fixture
def people(store: SqlFaceStore) -> PersonStore:
    return PersonStore(store)


def test_grouping_makes_visits_of_tracks_and_persons_of_visits(
    store: SqlFaceStore, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces
) -> None:
    ann, ben = make_faces(2)
    for number, (face, track, seconds) in enumerate(
        [(ann, 0, 0), (ann, 0, 5), (ben, 1, 9), (ann, 2, 500), (ben, 3, 600), (ben, 3, 900)]
    ):
        see(store, camera, face, number, seconds, track=track)
    group(Grouper(store, [judged], GAP))
    # The number of a track that comes again much later is another visit: cameras begin to count anew.
    assert partition(store) == [[[0, 1], [3]], [[2], [4], [5]]]


def test_grouping_without_tracks_goes_by_device_time_and_likeness(
    store: SqlFaceStore, judged: CatalogEntry, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    (ann, ben), door, hall = make_faces(2), Camera(entry.codec), Camera(entry.codec, "hall", key=b"1" * 16)
    see(store, door, ann, 0, 0)
    see(store, door, ben, 1, 10)
    see(store, door, ann, 2, 20)
    see(store, hall, ann, 3, 21)
    see(store, door, ann, 4, 21 + GAP + 1)
    group(Grouper(store, [judged], GAP))
    assert partition(store) == [[[0, 2], [3], [4]], [[1]]]


def test_grouping_of_a_model_that_was_never_measured_takes_nobody_for_another(
    store: SqlFaceStore, entry: CatalogEntry, camera: Camera, make_faces: MakeFaces
) -> None:
    (ann,) = make_faces(1)
    see(store, camera, ann, 0, track=0)
    see(store, camera, ann, 1, track=1)
    group(Grouper(store, [replace(entry, rule=None)], GAP))
    assert partition(store) == [[[0]], [[1]]]


def test_grouping_by_two_servers_takes_each_face_in_once(
    place: str, open_store: OpenStore, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces
) -> None:
    stores, faces = [open_store(place), open_store(place)], make_faces(5)
    groupers = [Grouper(one, [judged], GAP) for one in stores]
    random = np.random.default_rng(0)
    for number in range(40):
        see(stores[0], camera, faces[int(random.integers(5))], number, 1000 * number, track=number)
        groupers[int(random.integers(2))].step()
    group(*groupers)
    alone = open_store(f"{place}.alone") if "://" not in place else None
    assert sum(map(len, partition(stores[0]))) == 40
    assert len(partition(stores[0])) == 5
    if alone is not None:
        assert partition(alone) == []


def test_grouping_begins_where_it_ended(
    store: SqlFaceStore, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces
) -> None:
    ann, ben = make_faces(2)
    see(store, camera, ann, 0, track=0)
    group(Grouper(store, [judged], GAP))
    see(store, camera, ben, 1, track=1)
    see(store, camera, ann, 2, track=2)
    group(Grouper(store, [judged], GAP))
    assert partition(store) == [[[0], [2]], [[1]]]


def test_late_layers_change_a_visit_and_not_its_place(
    store: SqlFaceStore, judged: CatalogEntry, camera: Camera, entry: CatalogEntry, make_faces: MakeFaces,
    people: PersonStore,
) -> None:  # fmt: skip
    ann, ben = make_faces(2)
    see(store, camera, ann.truncate(1, entry.config.layer_ends), 0, 0, track=0)
    see(store, camera, ben, 1, 50, track=1)
    grouper = Grouper(store, [judged], GAP)
    group(grouper)
    before = people.visits(10)
    see(store, camera, ann, 0, 0, track=0)
    see(store, camera, ann, 2, 20, track=0, quality=90)
    group(grouper)
    after = people.visits(10)
    assert [one.id for one in after] == [one.id for one in before]
    assert [len(one.members) for one in after] == [1, 2]
    assert after[1].members[0].name.number == 2, "the better shot stands for the visit"
    assert after[1].changed > before[1].changed


def test_erased_faces_leave_visits_and_empty_persons_go_with_their_names(
    store: SqlFaceStore, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces, people: PersonStore
) -> None:
    ann, ben = make_faces(2)
    for number, (face, track) in enumerate([(ann, 0), (ann, 0), (ben, 1)]):
        see(store, camera, face, number, number, track=track)
    grouper = Grouper(store, [judged], GAP)
    group(grouper)
    first = people.visits(10, device="door-1")[-1].person
    people.name(first, "Ann")
    store.erase([FaceName(camera.source.stream_id, 0)])
    group(grouper)
    assert partition(store) == [[[1]], [[2]]]
    store.erase([FaceName(camera.source.stream_id, 1)])
    group(grouper)
    assert partition(store) == [[[2]]]
    with pytest.raises(NoPersonError):
        people.person(first)
    with store.database.read() as db:
        for table in ("persons", "edits"):
            assert "Ann" not in str(db.exec_driver_sql(f"SELECT * FROM {table}").all())
    see(store, camera, ann, 9, 900, track=9)
    group(grouper)
    assert len(partition(store)) == 2, "nothing in memory still takes her for somebody who went"


@pytest.mark.parametrize("named", [False, True])
def test_lone_visit_is_looked_at_again_when_a_person_is_known_better(
    store: SqlFaceStore, entry: CatalogEntry, camera: Camera, make_faces: MakeFaces, people: PersonStore, named: bool
) -> None:
    """Two faces too unlike, and one between them: it joins one, and what both are by then is like the other."""
    first, other = (replace(face, group=0) for face in make_faces(2))
    odd = np.arange(len(first.tokens)) % 3 == 0
    between = replace(first, tokens=np.where(odd, other.tokens, first.tokens))
    likeness = Likeness(replace(entry, rule=rule_of(entry.model_id.hex(), entry.config.layer_names, None)))
    units = likeness.units([first, between, other])
    apart, near, far = (likeness.verdict(units[a], units[b])[0] for a, b in ((0, 2), (0, 1), (1, 2)))
    known = likeness.verdict(likeness.average(units[:2]), units[2])[0]
    assert apart < known < near > far
    enough = (apart + known) / 2
    judged = replace(entry, rule=rule_of(entry.model_id.hex(), entry.config.layer_names, None, enough, enough))
    grouper = Grouper(store, [judged], GAP)
    for number, face in enumerate([other, first]):
        see(store, camera, face, number, 1000 * number, track=number)
    group(grouper)
    assert partition(store) == [[[0]], [[1]]]
    if named:
        people.name(people.visits(10)[-1].person, "Ann")
    see(store, camera, between, 2, 2000, track=2)
    group(grouper)
    assert partition(store) == ([[[0]], [[1], [2]]] if named else [[[0], [1], [2]]])


@contextlib.contextmanager
def unchanged(people: PersonStore) -> Iterator[None]:
    """Edits within are undone at the end: all is as before."""

    def state() -> list[object]:
        rows: list[PersonRow] = people.persons(100)
        return [replace(one, changed=0) for one in rows], {one.id: one.person for one in people.visits(100)}

    before = state()
    yield
    assert state() != before
    people.undo()
    assert state() == before


def test_every_edit_is_undone(
    store: SqlFaceStore, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces, people: PersonStore
) -> None:
    ann, ben = make_faces(2)
    for number, face in enumerate([ann, ben, ann]):
        see(store, camera, face, number, 100 * number, track=number)
    group(Grouper(store, [judged], GAP))
    second, first = (one.id for one in people.persons(10))
    visits = [one.id for one in people.visits(10, person=first)]
    people.name(second, "Ben")
    with unchanged(people):
        people.name(first, " Ann  B. ")
        assert people.person(first).name == "Ann B."
    with unchanged(people):
        people.hide(first, True)
        assert [one.person for one in people.visits(10, hidden=False)] == [second]
    with unchanged(people):
        people.feature(first, FaceName(camera.source.stream_id, 0))
    with unchanged(people):
        people.merge(first, [second])
        assert (people.person(first).name, people.person(first).visits) == ("Ben", 3)
    with unchanged(people):
        fresh = people.split(first, visits[:1]).person
        assert people.person(fresh).visits == people.person(first).visits == 1
    with unchanged(people):
        people.enroll("Eve", [Enrolled(judged.model_id, 3, judged.codec.payload(ben), 80)])


def test_undo_waits_for_later_edits_of_the_same_person(
    store: SqlFaceStore, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces, people: PersonStore
) -> None:
    for number, face in enumerate(make_faces(2)):
        see(store, camera, face, number, track=number)
    group(Grouper(store, [judged], GAP))
    second, first = (one.id for one in people.persons(10))
    merged = people.merge(first, [second])
    named = people.name(first, "Ann")
    with pytest.raises(UndoError, match=f"edit {named.edit} of the same person"):
        people.undo(merged.edit)
    assert people.undo().undone == "name"
    assert people.undo(merged.edit).undone == "merge"
    with pytest.raises(UndoError, match="undone already"):
        people.undo(merged.edit)


def test_merged_persons_stay_merged_for_every_server(
    place: str, open_store: OpenStore, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces
) -> None:
    stores, (ann, ben) = [open_store(place), open_store(place)], make_faces(2)
    groupers = [Grouper(one, [judged], GAP) for one in stores]
    see(stores[0], camera, ann, 0, 0, track=0)
    see(stores[0], camera, ben, 1, 0, track=1)
    group(*groupers)
    people = PersonStore(stores[0])
    second, first = (one.id for one in people.persons(10))
    people.merge(first, [second])
    see(stores[0], camera, ann, 2, 1000, track=2)
    group(groupers[1])
    assert len(people.persons(10)) <= 2
    assert {one.person for one in people.visits(10) if one.began < NOON / 1000 + 10} == {first}


def test_watch_list_keeps_faces_of_the_enrolled_alone(
    store: SqlFaceStore, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces, people: PersonStore
) -> None:
    ann, ben, eve = make_faces(3)
    photo = Enrolled(judged.model_id, ann.layers, judged.codec.payload(ann), 80)
    person = people.enroll("Ann", [photo]).person
    for number, face in enumerate([ben, ann, eve, ann]):
        see(store, camera, face, number, 1000 * number, track=number)
    grouper = Grouper(store, [judged], GAP, watch_list=True)
    group(grouper)
    assert partition(store) == [[[1], [3]]]
    assert {grouper.watch(visit.id) for visit in people.visits(10)} == {"known"}
    assert people.person(person).visits == 2
    assert store.count() == 2
    assert people.changes(None).passed == 2


def test_forgetting_a_person_leaves_nothing(
    store: SqlFaceStore, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces, people: PersonStore
) -> None:
    ann, ben = make_faces(2)
    person = people.enroll("Ann", [Enrolled(judged.model_id, ann.layers, judged.codec.payload(ann), 80)]).person
    for number, face in enumerate([ann, ben]):
        see(store, camera, face, number, track=number)
    grouper = Grouper(store, [judged], GAP)
    group(grouper)
    assert grouper.watch(people.visits(10, person=person)[0].id) == "known"
    assert people.forget(person) == 1
    group(grouper)
    assert partition(store) == [[[1]]]
    with store.database.read() as db:
        for table in ("enrollments", "edits", "edit_persons"):
            assert db.exec_driver_sql(f"SELECT * FROM {table}").all() == []


def test_changes_tell_all_that_came_and_went(
    store: SqlFaceStore, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces, people: PersonStore
) -> None:
    for number, face in enumerate(make_faces(6)):
        see(store, camera, face, number, track=number)
    grouper = Grouper(store, [judged], GAP)
    group(grouper)
    seen, after = set(), 0
    while True:
        found = people.changes(after, limit=2)
        seen |= {visit.id for visit in found.visits}
        after = found.revision
        if not found.more:
            break
    assert len(seen) == 6
    store.erase([FaceName(camera.source.stream_id, 3)])
    found = people.changes(after)
    assert (len(found.gone_visits), len(found.gone_persons), found.visits) == (1, 1, [])


def test_repair_keeps_visits_persons_and_names(
    tmp_path: Path, open_store: OpenStore, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces
) -> None:
    path = tmp_path / "faces.db"
    with contextlib.closing(SqlFaceStore(path)) as store:
        ann, ben = make_faces(2)
        for number, face in enumerate([ann, ben, ann]):
            see(store, camera, face, number, 1000 * number, track=number)
        group(Grouper(store, [judged], GAP))
        people = PersonStore(store)
        person = people.visits(1)[0].person
        people.name(person, "Ann")
    repair_store(path)
    mended = open_store(path)
    group(Grouper(mended, [judged], GAP))
    assert partition(mended) == [[[0], [2]], [[1]]]
    assert PersonStore(mended).person(person).name == "Ann"


def test_grouping_by_two_processes_takes_each_face_in_once(
    place: str, open_store: OpenStore, tiny_model: Path, camera: Camera, make_faces: MakeFaces
) -> None:
    store, known, context, count = open_store(place), make_faces(6), get_context("spawn"), 120
    begin, told = context.Barrier(3), context.Queue()
    work = place, tiny_model, begin, count, told, GAP
    processes = [context.Process(target=group_beside_another, args=work) for _ in range(2)]
    for one in processes:
        one.start()
    try:
        begin.wait(120)
        for number in range(count):
            see(store, camera, known[number % 6], number, 1000 * number, track=number)
        found = [told.get(timeout=120) for _ in processes]
    finally:
        for one in processes:
            one.join(30)
            one.kill()
    assert [one.exitcode for one in processes] == [0, 0]
    groups = partition(store)
    assert sorted(number for visits in groups for visit in visits for number in visit) == list(range(count))
    assert [len(visits) for visits in groups] == [count // 6] * 6, "as one server alone groups them"
    assert sum(began for began, _ in found) == count, "each visit was told of by one of them"
    assert all(steps for _, steps in found), "both took part"


@pytest.fixture
def watching(store: SqlFaceStore, judged: CatalogEntry, people: PersonStore, make_faces: MakeFaces) -> Grouper:
    """A watch list with the first face on it."""
    ann = make_faces(1)[0]
    people.enroll("Ann", [Enrolled(judged.model_id, ann.layers, judged.codec.payload(ann), 80)])
    return Grouper(store, [judged], GAP, watch_list=True)


def test_watch_list_lets_strangers_pass_before_they_are_stored(
    store: SqlFaceStore, watching: Grouper, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces,
    people: PersonStore,
) -> None:  # fmt: skip
    ann, ben, eve = make_faces(3)
    frames = [
        camera.frame(face, number, NOON + 1000 * number, track=track)
        for number, (face, track) in enumerate([(ann, 0), (ben, 0), (ben, 1), (eve, None), (ann, None)])
    ]
    assert watching.let_pass(frames) == [False, False, True, True, False], "a track stays whole"
    assert people.changes(None).passed == 2
    assert [(one.event, one.visit, one.track) for one in watching.happened()] == [
        ("unknown", None, 1), ("unknown", None, None),
    ]  # fmt: skip
    see(store, camera, ann, 0, 0, track=0)
    group(watching)
    later = camera.frame(eve, 9, NOON + 9000, track=0)
    assert watching.let_pass([later, frames[0]]) == [False, False], "what is of a visit stays"
    template = Camera(judged.codec, kind=Kind.PROTECTED).frame(eve, 10, NOON, track=9)
    assert watching.let_pass([template]) == [False], "nobody here can tell whose a protected template is"
    too_late = camera.frame(eve, 10, NOON + round(1000 * (10 * GAP)), track=0)
    assert watching.let_pass([too_late]) == [True]


def test_watch_list_with_nobody_on_it_lets_everybody_pass(
    store: SqlFaceStore, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces
) -> None:
    frames = [camera.frame(make_faces(1)[0], 0)]
    assert Grouper(store, [judged], GAP, watch_list=True).let_pass(frames) == [True]
    unmeasured = Grouper(store, [replace(judged, rule=None)], GAP, watch_list=True)
    assert unmeasured.let_pass(frames) == [False], "nothing is known of a model that was never measured"
