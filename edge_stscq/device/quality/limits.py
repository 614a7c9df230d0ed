"""Limits of the gate: one frozen model, from a TOML file, from options or in code.

    sharpness = 50           # lines of a file; what it leaves out keeps its default
    head_pose_yaw = "off"    # not judged
    refuse_covered = true

Each limit has the name of the verdict that it decides.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from edge_stscq.errors import EdgeError

OFF = "off"
"""In a file or an option, what switches a limit off; None in code."""


def _none_if_off(given: object) -> object:
    return None if given == OFF else given


_Off = BeforeValidator(_none_if_off)
Share = Annotated[Annotated[float, Field(ge=0, le=1)] | None, _Off]
Difference = Annotated[Annotated[float, Field(ge=-1, le=1)] | None, _Off]
Amount = Annotated[Annotated[float, Field(ge=0, allow_inf_nan=False)] | None, _Off]
Level = Annotated[Annotated[float, Field(ge=0, le=255)] | None, _Off]
Angle = Annotated[Annotated[float, Field(ge=0, le=180)] | None, _Off]


class Limits(BaseModel):
    """What a face must reach; None passes everything and costs nothing.

    Example:
        >>> limits = Limits.load(Path("gate.toml")).changed("sharpness=50", "head_pose_yaw=off")
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    detector_score: Share = 0.6
    """Least confidence of the detector, 0 to 1."""
    inter_eye_distance: Amount = 20
    """Least distance between the eyes, in pixels of the picture; the crop shows 35."""
    points_outside: Amount = 0
    """Most that one of the five points may lie outside the picture, in distances between the eyes."""
    crop_outside: Share = 0.05
    """Most of the face in its crop that may be reflection instead of picture, as a share of its area."""
    head_pose_roll: Angle = 40
    """Most turn in the plane of the picture, in degrees."""
    head_pose_yaw: Angle = 60
    """Most turn to the side, in degrees as reckoned from five points."""
    luminance_least: Level = 35
    """Least mean brightness of the face, in grey levels."""
    luminance_most: Level = 220
    """Greatest mean brightness of the face, in grey levels."""
    clipping: Share = 0.15
    """Most of the face that may be black (4 and below) or white (247 and above), as a share of its area."""
    sharpness: Amount = 39
    """Least sharpness in the weakest direction, in percent of an ideal edge's."""
    second_look: Share = 0.6
    """Least score when the detector looks at the aligned crop, 0 to 1."""
    landmark_shift: Amount = 8
    """Most that the points may differ when looked for again in the crop, root mean square in pixels of the crop."""
    upright: Difference = 0
    """Least score of the crop as it is minus the best of its turns by 90, 180 and 270 degrees, -1 to 1."""
    face_occlusion_prevention: Share = 0.2
    """Least detail of the part of the face (eyes, nose, mouth) that shows least, beside their mean, 0 to 1."""
    refuse_covered: bool = False
    """Refuse covered faces as well; otherwise the verdict is only reported."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Limits of a TOML file.

        Raises:
            EdgeError: it cannot be read, is no TOML, or a limit is unknown or out of range.
        """
        try:
            given = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise EdgeError(f"cannot read the limits {path}: {error.strerror}; give a TOML file") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise EdgeError(f"{path} is not TOML: {error}; write lines such as sharpness = 50") from None
        return cls._checked(given, str(path))

    def changed(self, *assignments: str) -> Self:
        """These limits with some of them set anew, each given as "NAME=VALUE"; "off" switches one off.

        Raises:
            EdgeError: one is not of this form, unknown or out of range.
        """
        given: dict[str, Any] = self.model_dump()
        for assignment in assignments:
            name, equals, value = (part.strip() for part in assignment.partition("="))
            if not equals:
                raise EdgeError(f"{assignment!r} sets no limit; write NAME=VALUE, such as sharpness=50")
            given[name] = value
        return self._checked(given, "an option")

    @classmethod
    def _checked(cls, given: Mapping[str, Any], source: str) -> Self:
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"][:1]))
            if first["type"] == "extra_forbidden":
                raise EdgeError(f"{source}: no limit is called {name!r}; {', '.join(cls.model_fields)}") from None
            says = first["msg"].lower().replace("input", name)
            raise EdgeError(f"{source}: {says}, not {first['input']!r}; give a number in range, or {OFF!r}") from None
