"""Thresholds of protected templates: from which score on a template and a face are taken for one person's.

`template-thresholds.json` lies beside the weights of a model. It is measured by `edge-stscq thresholds --templates`
over all pairs of faces of different people: each is enrolled under a key of its own and matched, under that key, with
the embedding of every other, as a matcher does that holds the keys. Scores of two schemes do not compare, so each has
thresholds of its own, and so has each model. Embeddings are those of all layers, of which cameras make templates.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_stscq._files import write_file
from edge_stscq.config.match_thresholds import MAX_BYTES, Limits, Measurement
from edge_stscq.errors import EdgeError

FILE = "template-thresholds.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SchemeThresholds(_Frozen):
    """Thresholds of one scheme."""

    scheme: str
    limits: Limits


class TemplateThresholds(_Frozen):
    """`template-thresholds.json` of a model.

    Example:
        >>> found = TemplateThresholds.load(Path("models/face64/template-thresholds.json"))
        >>> found.limits("rotated").verdict(0.7)
        'same person'
    """

    format_version: Literal[1] = 1
    model_id: str = Field(pattern=r"^[0-9a-f]{16}$")
    measured: Measurement
    schemes: tuple[SchemeThresholds, ...] = Field(min_length=1)

    def limits(self, scheme: str) -> Limits:
        """Thresholds of a scheme.

        Raises:
            EdgeError: none were measured for it.
        """
        for each in self.schemes:
            if each.scheme == scheme:
                return each.limits
        known = ", ".join(each.scheme for each in self.schemes)
        raise EdgeError(f"no thresholds were measured for templates of scheme {scheme}, but for {known}")

    @classmethod
    def load(cls, path: Path) -> "TemplateThresholds":
        """Read the file.

        Raises:
            EdgeError: it is missing or damaged.
        """
        try:
            with path.open("rb") as file:
                return cls.model_validate_json(file.read(MAX_BYTES))
        except OSError as error:
            raise EdgeError(f"cannot read {path}: {error.strerror}; give {FILE} of the templates' model") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "file"
            hint = "measure them again with: edge-stscq thresholds --templates"
            raise EdgeError(f"{path}: {where}: {first['msg']}; {hint}") from None

    def save(self, folder: Path) -> None:
        """Write the file into a model's folder, in one step.

        Raises:
            EdgeError: it cannot be written.
        """
        write_file(Path(folder) / FILE, (self.model_dump_json(indent=1) + "\n").encode())
