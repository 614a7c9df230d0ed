"""Grouping in a process of its own, which imports no more than that takes."""

import contextlib
from dataclasses import replace
from multiprocessing import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from edge_stscq.server.decoding.catalog import ModelCatalog
from edge_stscq.server.persons import grouping
from edge_stscq.server.persons.editing import PersonStore
from edge_stscq.server.persons.grouping import Grouper
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from tests.support.models.match_rules import rule_of


def group_beside_another(
    place: str, model: Path, begin: Barrier, faces: int, told: "Queue[tuple[int, int]]", gap: float, page: int = 5
) -> None:
    """Group as a server does, until all faces are in visits; says the visits that this process began, and its steps."""
    (entry,) = ModelCatalog([model])
    rule = rule_of(entry.model_id.hex(), entry.config.layer_names, None, 0.9, 0.8)
    grouping.PAGE, began, steps = page, 0, 0
    with contextlib.closing(SqlFaceStore(place)) as store:
        grouper, people = Grouper(store, [replace(entry, rule=rule)], gap), PersonStore(store)
        begin.wait(120)
        while people.changes(None).mark < faces:
            steps += bool(grouper.step())
            began += sum(one.own and one.event == "visit" for one in grouper.happened())
    told.put((began, steps))
