"""Visits and persons from Python, beside a server or without one."""

from pathlib import Path

import pytest

import edge_stscq as es
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.persons.grouping import Grouper
from tests.server.conftest import MakeFaces, OpenStore
from tests.support.stored_faces import NOON, Camera, accept


def test_open_persons_lists_and_names(
    place: str, open_store: OpenStore, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    store, camera = open_store(place), Camera(entry.codec)
    accept(store, [camera.frame(face, number, NOON, track=number) for number, face in enumerate(make_faces(2))])
    while Grouper(store, [entry], 60).step():
        pass
    with es.server.open_persons(place) as people:
        visit = people.visits(1)[0]
        assert (visit.device, len(visit.members)) == ("door-1", 1)
        edited = people.name(visit.person, "Ada")
        assert [row.name for row in people.persons(9)] == ["Ada", None]
        people.undo(edited.edit)
        assert people.person(visit.person).name is None


def test_open_persons_makes_no_store_unasked(tmp_path: Path) -> None:
    path = tmp_path / "faces.db"
    with pytest.raises(es.EdgeError, match="there is no store"), es.server.open_persons(path):
        pass
    assert not path.exists()
    with es.server.open_persons(path, make=True) as people:
        assert people.persons(9) == []


def test_open_persons_says_of_another_file_that_it_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "faces.db"
    path.write_bytes(b"no database at all" * 100)
    path.chmod(0o600)
    with pytest.raises(es.EdgeError), es.server.open_persons(path):
        pass
