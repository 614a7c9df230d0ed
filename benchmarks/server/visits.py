"""Visits and persons of a server that saw a hundred visits by twenty people.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.server.visits --bundle bundles/onnx-int8
                                                                              -> benchmarks/results/visits.json

Five cameras film a day each. Everybody comes once a day, every day from another photograph of LFW's, under another
light and at another distance; the camera's own loop, gate, tracks, encoder and sender send what they find to a server
started with `--persons`. One comes after the other, so that the time of a face tells whose it is. A second server gets
the crops of all others of whom there are five photographs, coded but not filmed.

The twenty are drawn by a hash of their names; none is left out for being hard. No network was trained on them. The
thresholds of face64 were measured on all of LFW's pairs, so these people are among its 4,881. A first run ended with 26
persons: visits stayed alone which the average of several others is like. That these are looked at again was decided by
the others, and not by the twenty.
"""

import hashlib
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import cv2
import httpx2
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.record import write
from benchmarks.released import MODEL
from benchmarks.server.load import Server, serving
from demo_camera.loop import CaptureLoop
from demo_camera.outlets import record
from demo_camera.sinks import FrameSink
from demo_camera.sources import Picture
from demo_camera.sources.picture import SourceCounters
from edge_stscq._local_servers import local_token
from edge_stscq.bundle import Bundle, open_bundle
from edge_stscq.cli.ui import progress_bar
from edge_stscq.client.sender import Sender
from edge_stscq.data.crops import face_names, load_faces
from edge_stscq.device import Matcher, load_encoder
from edge_stscq.device.detect import Detector
from edge_stscq.device.quality import QualityGate
from edge_stscq.errors import EdgeError
from edge_stscq.stream import Clock
from edge_stscq.stream.envelope import Source, WireFrame, new_stream_key, stream_id
from tests.support.sources.film import START, Film, Person, Pose, Visit

PEOPLE, DAYS, RATE = 20, 5, 8.0
STAY, GAP = 5.0, 0.8
"""Seconds of a visit, and from one to the next: less than a track outlasts its face."""
DAY_MS = 86_400_000
LIGHT, SIZE = (1.0, 0.7, 1.15, 0.85, 0.55), (80, 92, 70, 86, 76)
"""Light of each day, and the width of a face that is nearest, in pixels."""
GROUPED_SECONDS = 60.0


@dataclass
class FilmSource:
    """A film as a camera of a day gives it."""

    film: Film
    day: int
    live: bool = False
    counters: SourceCounters = field(default_factory=SourceCounters)

    @property
    def name(self) -> str:
        """Name of the camera."""
        return f"door-{self.day}"

    def pictures(self) -> Iterator[Picture]:
        """Pictures of the film, on its day."""
        for picture in self.film.pictures():
            self.counters.pictures += 1
            assert picture.captured_ms is not None
            yield replace(picture, captured_ms=picture.captured_ms + self.day * DAY_MS)

    def close(self) -> None:
        """Do nothing: a film ends by itself."""


def draw_people(crops: Path) -> list[list[str]]:
    """Names of five photographs of everybody who has so many, in an order that is drawn."""
    photographs: dict[str, list[str]] = defaultdict(list)
    for name in face_names(crops):
        photographs[name.rpartition("_")[0]].append(name)
    drawn = sorted(photographs, key=lambda name: hashlib.sha256(name.encode()).digest())
    return [sorted(photographs[name])[:DAYS] for name in drawn if len(photographs[name]) >= DAYS]


def film(people: Sequence[Person], day: int) -> Film:
    """The film of a day: everybody comes up to the camera, turns the head and leaves, one after the other."""
    size, light, visits = SIZE[day], LIGHT[day], []
    for number, person in enumerate(people):
        start, side = 1 + number * (STAY + GAP), 1 if (number + day) % 2 else -1
        near = start + STAY / 2
        visits.append(Visit(person, (
            (start, Pose(480, 190, 36, 15 * side, light=light)), (near, Pose(330, 225, size, 0, light=light)),
            (near + 0.8, Pose(320, 228, size + 2, -18 * side, light=light)),
            (near + 1.5, Pose(325, 226, size, 4 * side, light=light)),
            (start + STAY, Pose(320 + 400 * side, 235, size, 35 * side, light=light)),
        )))  # fmt: skip
    return Film(visits, 1 + len(people) * (STAY + GAP) + 2.5, RATE)


def capture(bundle: Bundle, server: Server, made: Film, day: int) -> CaptureLoop:
    """Send what a camera finds in a film, as `edge-stscq capture --url` does."""
    detector = Detector()
    loop = CaptureLoop(
        detector, load_encoder(bundle, 1), bundle.frames, QualityGate(detector), Matcher.of(bundle)
    )  # fmt: skip
    source = FilmSource(made, day)
    with Sender(f"http://127.0.0.1:{server.port}", source.name) as sender:
        record(loop, source, [FrameSink(source.name, sender=sender)])
    return loop


def ask(server: Server, path: str) -> Any:
    """Answer of a server to its own machine."""
    url = f"http://127.0.0.1:{server.port}"
    answer = httpx2.get(f"{url}{path}", headers={"Authorization": f"Bearer {local_token(url)}"}, timeout=30)
    answer.raise_for_status()
    return answer.json()


class Grouped(NamedTuple):
    """One visit as a server grouped it; `people` in it, the one with most faces first."""

    device: str
    person: int
    people: tuple[int, ...]


def grouped_visits(server: Server) -> list[dict[str, Any]]:
    """All visits, once everything is grouped."""
    ends = time.monotonic() + GROUPED_SECONDS
    while not ask(server, "/v1/visits/changes")["grouped"]:
        if time.monotonic() > ends:
            raise EdgeError(f"the server has not grouped its faces within {GROUPED_SECONDS:.0f} s; run this again")
        time.sleep(0.1)
    found, before = [], ""
    while True:
        page = ask(server, f"/v1/visits?limit=500{before}")
        found += page["visits"]
        if page["next"] is None:
            return found
        before = f"&before={page['next']}"


def film_days(bundle: Bundle, pictures: Sequence[Sequence[NDArray[np.uint8]]], server: Server) -> dict[str, int]:
    """Film and send all days; the cameras' counters."""
    detector, counters = Detector(), Counter[str]()
    with progress_bar("days", DAYS) as progress:
        for day in range(DAYS):
            people = [Person.cut(f"person {at}", found[day], detector) for at, found in enumerate(pictures)]
            numbers = capture(bundle, server, film(people, day), day).counters.by_name()
            counters.update({name: numbers[name] for name in ("pictures", "tracks", "faces", "wire_bytes")})
            progress(1)
    return dict(counters)


def filmed(server: Server) -> list[Grouped]:
    """Visits of the films."""
    found = []
    for one in grouped_visits(server):
        faces = ask(server, f"/v1/visits/{one['id']}")["members"]
        people = Counter(whose(face) for face in faces).most_common()
        found.append(Grouped(one["device"], one["person"], tuple(number for number, _ in people)))
    return found


def whose(face: Mapping[str, Any]) -> int:
    """Number of the one who was before the camera when a face was taken."""
    seconds = datetime.fromisoformat(face["captured"]).timestamp() - START / 1000
    return int((seconds % (DAY_MS / 1000) - 1) / (STAY + GAP))


def send_crops(bundle: Bundle, pictures: Sequence[Sequence[NDArray[np.uint8]]], server: Server) -> None:
    """Send a visit of one face of everybody each day; the number of the track is that of the person."""
    encoder, url = load_encoder(bundle, 1), f"http://127.0.0.1:{server.port}"
    with progress_bar("visits", len(pictures) * DAYS) as progress:
        for day in range(DAYS):
            key, device = new_stream_key(), f"door-{day}"
            source = Source(stream_id(key), device, bundle.frames.model_id, clock=Clock.SYNCHRONIZED)
            frames = []
            for number, found in enumerate(pictures):
                face, at = encoder.encode(found[day]), START + day * DAY_MS + number * 1000
                frames.append(WireFrame(source, number, face.layers, bundle.frames.payload(face), at, number))
                progress(1)
            with Sender(url, device) as sender:
                sender.send_frames(frames, key)


def score(visits: Sequence[Grouped]) -> dict[str, Any]:
    """Counts of persons, wrong merges and wrong splits, and of pairs of visits."""
    of_person, of_people = defaultdict(set), defaultdict(set)
    for visit in visits:
        of_person[visit.person].add(visit.people[0])
        of_people[visit.people[0]].add(visit.person)
    pairs = [
        (first.people[0] == second.people[0], first.person == second.person)
        for first, second in itertools.combinations(visits, 2)
    ]
    same, joined, right = sum(one for one, _ in pairs), sum(one for _, one in pairs), sum(map(all, pairs))
    return {
        "visits_seen": len({(visit.device, visit.people[0]) for visit in visits}), "visits_grouped": len(visits),
        "visits_of_two_people": sum(len(visit.people) > 1 for visit in visits), "people_seen": len(of_people),
        "persons": len(of_person), "wrong_merges": sum(len(found) - 1 for found in of_person.values()),
        "wrong_splits": sum(len(found) - 1 for found in of_people.values()),
        "pairs": {
            "same": same, "joined": joined, "right": right, "precision": round(right / joined, 4),
            "recall": round(right / same, 4),
        },
    }  # fmt: skip


def main(
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder with lfw/.")],
    bundle: Annotated[Path, typer.Option(help="Bundle of the cameras.")],
    model: Annotated[Path, typer.Option(help="Model folder of the servers.")] = MODEL,
) -> None:
    """Write benchmarks/results/visits.json."""
    cv2.setNumThreads(1)
    crops = data / "lfw" / "lfw-crops.tar"
    drawn, opened = draw_people(crops), open_bundle(bundle)
    faces = load_faces(crops, names=[name for names in drawn for name in names])
    by_name = dict(zip(faces.names, faces.images, strict=True))
    pictures = [[by_name[name] for name in names] for names in drawn]
    with serving(model, "--persons") as server:
        counters = film_days(opened, pictures[:PEOPLE], server)
        films = filmed(server)
    with serving(model, "--persons") as server:
        send_crops(opened, pictures[PEOPLE:], server)
        others = [Grouped(one["device"], one["person"], (one["track"],)) for one in grouped_visits(server)]
    results = {
        "model": model.name,
        "films": {"people": PEOPLE, "visits": PEOPLE * DAYS, "cameras": DAYS, **counters, **score(films)},
        "others": {"people": len(drawn) - PEOPLE, "visits": (len(drawn) - PEOPLE) * DAYS, **score(others)},
    }
    typer.echo(write("visits", results))


if __name__ == "__main__":
    typer.run(main)
