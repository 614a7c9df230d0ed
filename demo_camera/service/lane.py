"""Lane of one camera: its reader, its capture loop, its spool and what is known of all three."""

from collections.abc import Mapping
from dataclasses import dataclass

from demo_camera.keeper import Keeper
from demo_camera.service.delivery import Delivery
from demo_camera.service.parts import Loop
from demo_camera.service.reader import Reader, State


@dataclass(frozen=True)
class Status:
    """Figures of one camera at one moment.

    Attributes:
        rate: pictures a second, of late.
        skipped: pictures that a newer one took the place of.
        pictures: looked at.
        faces: captured.
        refused: faces that were not captured, by reason.
        tracks: visits that began.
        restarts: times that the source was opened again.
        silence: seconds since the last picture.
        seconds: that detector, gate and encoder took.
        damaged: pictures that could not be decoded.
        failures: pictures, or ends of visits, that the loop failed at.
        waiting: faces in the spool; `unkept` more in memory, since the spool cannot be written.
        repeated: faces that were in the spool before.
        lost: faces that no spool took.
        delivered: faces that the server has.
        set_aside: faces that the server refused.
        bytes_sent: of all requests.
    """

    name: str
    state: State
    rate: float
    skipped: int
    pictures: int
    faces: int
    refused: Mapping[str, int]
    tracks: int
    restarts: int
    silence: float
    seconds: float
    damaged: int
    failures: int
    waiting: int
    unkept: int
    repeated: int
    lost: int
    delivered: int
    set_aside: int
    bytes_sent: int


@dataclass
class Lane:
    """One camera with all that is its own."""

    reader: Reader
    loop: Loop
    keeper: Keeper
    delivery: Delivery | None
    seconds: float = 0.0
    failures: int = 0

    @property
    def name(self) -> str:
        return self.reader.camera

    def status(self) -> Status:
        """Figures of now; they may be a picture apart."""
        reader, counters, keeper, sent = self.reader, self.loop.counters, self.keeper, self.delivery
        return Status(
            name=self.name, state=reader.state, rate=reader.rate(), skipped=reader.skipped,
            pictures=counters.pictures, faces=counters.faces, refused=dict(counters.rejected), tracks=counters.tracks,
            restarts=reader.restarts, silence=reader.silence(), seconds=self.seconds, damaged=reader.damaged,
            failures=self.failures,             waiting=keeper.waiting, unkept=keeper.unkept, repeated=keeper.repeated,
            lost=keeper.lost,
            delivered=sent.report.faces if sent else 0, set_aside=sent.report.refused if sent else 0,
            bytes_sent=sent.report.bytes if sent else 0,
        )  # fmt: skip
