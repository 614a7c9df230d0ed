"""Outlets: places that each captured face goes to, and the promise that all of them are closed.

Whatever ends a capture - the source, a signal, a full disk, a lost server - every outlet gets the faces so far and is
closed; then the first error is raised.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from demo_camera.journal import Journal
from demo_camera.loop import CaptureLoop
from demo_camera.results import Capture, Step
from demo_camera.sources import Source
from edge_stscq._files import make_folder, write_file
from edge_stscq._images import encode_image
from edge_stscq.client.spool import Spool
from edge_stscq.device.quality import Judgement
from edge_stscq.errors import EdgeError

MOST_REFUSED = 1000
"""Refused faces of one capture that are kept as pictures: a lamp taken for a face would fill the disk by morning."""


class Outlet(Protocol):
    """Place that captured faces go to."""

    def put(self, capture: Capture) -> None:
        """Take one face; `EdgeError` if that fails."""

    def poll(self) -> None:
        """Do what is due while no face comes."""

    def close(self) -> None:
        """Keep what was taken; `EdgeError` if that fails."""


class SpoolOutlet:
    """A spool, which gets no face twice: what a journal beside it knows is counted instead.

    Attributes:
        repeated: faces that earlier captures, or earlier pictures of this one, had put there.
    """

    def __init__(self, spool: Spool, journal: Journal) -> None:
        self._spool, self._journal = spool, journal
        self.repeated = 0

    def put(self, capture: Capture) -> None:
        """Take one face, unless it was taken before."""
        if self._journal.knows(capture):
            self.repeated += 1
            return
        self._spool.put(capture.coded)
        self._journal.add(capture)

    def poll(self) -> None:
        """Do nothing: what was put is on the disk."""

    def close(self) -> None:
        """Do nothing: what was put is on the disk."""


class CropFolder:
    """Pictures of the captured faces, DIR/000000.png and so on, in the order of the stream; for their owner alone.

    Args:
        option: the command's option by which the folder was chosen.

    Raises:
        EdgeError: the folder cannot be made or holds something: two captures would mix.
    """

    def __init__(self, path: Path, option: str) -> None:
        make_folder(path, option)
        try:
            if next(path.iterdir(), None) is not None:
                raise EdgeError(f"{path} holds files already, and new ones would mix with them; give {option} another")
        except OSError as error:
            raise EdgeError(f"{path} cannot be read: {error.strerror}; choose another with {option}") from None
        self._path, self._count = path, 0

    def put(self, capture: Capture) -> None:
        """Write the crop of one face."""
        write_file(self._path / f"{self._count:06d}.png", encode_image(capture.crop), private=True)
        self._count += 1

    def put_refused(self, judgement: Judgement) -> None:
        """Write the crop of one refused face as 000000-too-blurred.png, unless there are `MOST_REFUSED`."""
        if judgement.refusal is not None and self._count < MOST_REFUSED:
            name = f"{self._count:06d}-{judgement.refusal.reason.replace(' ', '-')}.png"
            write_file(self._path / name, encode_image(judgement.crop), private=True)
            self._count += 1

    def poll(self) -> None:
        """Do nothing: each picture is written at once."""

    def close(self) -> None:
        """Do nothing: each picture is written at once."""


def record(
    loop: CaptureLoop, source: Source, outlets: Sequence[Outlet], watch: Callable[[Step], None] = lambda step: None
) -> None:
    """Capture until the source ends or is closed or the loop's limit is reached, and close source and outlets.

    Args:
        watch: called with the result of each picture, once its faces are kept.

    Raises:
        EdgeError: source, encoder or an outlet failed; the faces so far are wherever they could be kept.
    """
    errors: list[EdgeError] = []

    def attempt(call: Callable[[], None]) -> None:
        try:
            call()
        except EdgeError as error:
            errors.append(error)

    def keep(captures: Iterable[Capture]) -> None:
        for capture in captures:
            for outlet in outlets:
                attempt(partial(outlet.put, capture))

    try:
        for step in loop.run(source.pictures()):
            keep(step.captures)
            for outlet in outlets:
                attempt(outlet.poll)
            watch(step)
            if errors or loop.full:
                source.close()
    except EdgeError as error:
        errors.append(error)
    finally:
        source.close()
        keep(loop.finish())
        for outlet in outlets:
            attempt(outlet.close)
    if errors:
        raise EdgeError("; then: ".join(dict.fromkeys(map(str, errors)))) from errors[0]
