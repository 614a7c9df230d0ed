"""The index of what is released: files, sizes and sha256 of models and of their bundles.

It travels in the package and names no host: where the files are is said when they are fetched, and what they must be is
known before. `face64` is a model folder, `face64:onnx-int8` a bundle of it.
"""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from edge_stscq.bundle.manifest import Digest, RelativePath, sha256_file
from edge_stscq.errors import EdgeError

INDEX = "index.json"
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*(:[a-z0-9][a-z0-9._-]*)?$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReleasedFile(_Frozen):
    """One file of a release."""

    size: int = Field(ge=0, description="bytes")
    sha256: Digest


class Release(_Frozen):
    """One model folder or bundle."""

    folder: RelativePath = Field(description="where its files are below the place")
    files: dict[RelativePath, ReleasedFile] = Field(min_length=1)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    def check(self, folder: Path) -> None:
        """Hold a folder against this release, every byte of it.

        Raises:
            EdgeError: a file is missing, of another content, or not listed.
        """
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
        if odd := sorted(found ^ self.files.keys()):
            raise EdgeError(f"{folder}: {odd[0]} is {'missing' if odd[0] in self.files else 'not of this release'}")
        for name, file in self.files.items():
            if sha256_file(folder / name) != file.sha256:
                raise EdgeError(f"{folder}: {name} was altered (sha256 differs)")


class Index(_Frozen):
    """Everything that is released, by name."""

    format_version: int = Field(default=1, ge=1, le=1)
    releases: dict[Name, Release]

    def find(self, name: str) -> Release:
        """The release of a name.

        Raises:
            EdgeError: there is none; the message lists the names.
        """
        if name not in self.releases:
            raise EdgeError(f"nothing is released as {name!r}; there are {', '.join(self.releases)}")
        return self.releases[name]


def folder_of(name: str) -> str:
    """Place of a release below the place of all: `models/face64`, `bundles/face64/onnx-int8`."""
    model, _, bundle = name.partition(":")
    return f"bundles/{model}/{bundle}" if bundle else f"models/{model}"


def describe(name: str, folder: Path) -> Release:
    """The release that a folder's files make.

    Raises:
        EdgeError: it has none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if not paths:
        raise EdgeError(f"{folder} has no files to release; make them first")
    listed = {
        path.relative_to(folder).as_posix(): ReleasedFile(size=path.stat().st_size, sha256=sha256_file(path))
        for path in paths
    }
    return Release(folder=folder_of(name), files=listed)


@cache
def load_index() -> Index:
    """The index of this version of the package."""
    return Index.model_validate_json((files(__package__) / INDEX).read_bytes())
