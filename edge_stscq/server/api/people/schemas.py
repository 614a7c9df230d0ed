"""JSON models of visits and persons."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from edge_stscq.config.match_thresholds import Verdict
from edge_stscq.server.api.schemas import FaceInfo, moment
from edge_stscq.server.persons.editing import MAX_NAME
from edge_stscq.server.persons.events import Watch
from edge_stscq.server.persons.rows import Owner, PersonRow, VisitRow


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VisitInfo(_Model):
    """Faces of one visit; `began` never changes, so lists keep their order."""

    id: int
    person: int
    name: str | None = Field(description="of the person")
    hidden: bool = Field(description="the person is")
    device: str
    track: int | None
    model_id: str
    began: datetime
    ended: datetime
    faces: int
    feature: str = Field(description="id of the best face")
    quality: int | None = Field(description="of the best face")
    layers: int = Field(description="of the best face")
    watch: Watch | None = Field(description="among the enrolled; null: nobody is, or the model was never measured")
    revision: int = Field(description="orders changes of visits and persons")

    @classmethod
    def of(cls, visit: VisitRow, owner: Owner | None, watch: Watch | None) -> "VisitInfo":
        """Of a visit and what is said of its person."""
        best = visit.members[0]
        return cls(
            id=visit.id, person=visit.person, name=owner.name if owner else None,
            hidden=owner.hidden if owner else False, device=visit.device, track=visit.track,
            model_id=visit.model.hex(), began=moment(visit.began), ended=moment(visit.ended),
            faces=len(visit.members), feature=visit.face_id(best), quality=best.quality, layers=best.layers,
            watch=watch, revision=visit.changed,
        )  # fmt: skip


class VisitPage(_Model):
    """Visits, newest first; pass `next` as `before` to go on, None at the end."""

    visits: list[VisitInfo]
    next: str | None


class VisitsOfFaces(_Model):
    """Visits of some faces; faces that are in none are left out."""

    visits: list[VisitInfo]
    of: dict[str, int] = Field(description="id of the visit by the face's")


class VisitDetail(VisitInfo):
    """One visit with its faces, the best first."""

    members: list[FaceInfo]


class PersonInfo(_Model):
    """One person; times are those of the first visit's begin and the last one's end."""

    id: int
    name: str | None
    hidden: bool
    enrolled: int = Field(description="photographs on the watch list")
    visits: int
    faces: int
    devices: list[str]
    first: datetime | None
    last: datetime | None
    feature: str | None = Field(description="id of the face to show: the chosen one, or the best")
    revision: int

    @classmethod
    def of(cls, person: PersonRow) -> "PersonInfo":
        """Of a row."""
        return cls(
            id=person.id, name=person.name, hidden=person.hidden, enrolled=person.enrolled, visits=person.visits,
            faces=person.faces, devices=list(person.devices),
            first=None if person.first is None else moment(person.first),
            last=None if person.last is None else moment(person.last), feature=person.feature, revision=person.changed,
        )  # fmt: skip


class PersonPage(_Model):
    """Persons, the newest first; pass `next` as `after` to go on, None at the end."""

    persons: list[PersonInfo]
    next: int | None


class LikelyPerson(_Model):
    """Another who may be the same person."""

    person: int
    name: str | None
    score: float
    verdict: Verdict


class PersonDetail(PersonInfo):
    """One person, and who may be the same."""

    perhaps: list[LikelyPerson]


class ChangePage(_Model):
    """Changes after a revision; ask again with `revision`, at once if there is `more`."""

    visits: list[VisitInfo]
    persons: list[PersonInfo]
    gone_visits: list[int]
    gone_persons: list[int]
    revision: int
    more: bool
    grouped: bool = Field(description="all stored faces that can be are in visits")
    passed: int = Field(description="faces of unknown people that a watch list let pass, in all")


class Naming(_Model):
    """A name, or none."""

    name: str | None = Field(max_length=10 * MAX_NAME)


class Hiding(_Model):
    """True if lists leave a person out."""

    hidden: bool


class Featuring(_Model):
    """Id of the face to show a person by; none is the best."""

    face: str | None = Field(max_length=100)


class Merging(_Model):
    """Others who are the same person."""

    others: list[int] = Field(min_length=1, max_length=1000)


class Splitting(_Model):
    """Visits of somebody else."""

    visits: list[int] = Field(min_length=1, max_length=10_000)


class Undoing(_Model):
    """Number of an edit; none is the last."""

    edit: int | None = None


class EditedPerson(_Model):
    """An edit, by whose number it is undone, and the person it left."""

    edit: int
    person: PersonInfo


class UndoneEdit(_Model):
    """An edit that was taken back."""

    edit: int
    undone: str


class Forgotten(_Model):
    """A person who was erased, and how many faces that were."""

    forgotten: int
    faces: int


class EnrolledPerson(_Model):
    """A person on the watch list, and what the gate found in the photograph."""

    edit: int
    person: PersonInfo
    quality: int
    box: tuple[float, float, float, float] | None
    faces_in_picture: int
