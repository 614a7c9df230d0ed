"""The `.mlpackage` folder.

    Manifest.json                                  which item is the model, which the weights
    Data/com.apple.CoreML/model.mlmodel            protocol buffer: interface and MIL program
    Data/com.apple.CoreML/weights/weight.bin       large constants

coremltools gives the items random identifiers and writes the date of the conversion into the model. Here the
identifiers are fixed, the date is left out and maps are written in the order of their keys, so that the same model
gives the same bytes on any day.
"""

import json
import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

from edge_stscq.errors import EdgeError

_AUTHOR = "com.apple.CoreML"
_MODEL = f"{_AUTHOR}/model.mlmodel"
_WEIGHTS = f"{_AUTHOR}/weights"
_ITEMS = {
    _MODEL: ("model.mlmodel", "CoreML Model Specification"),
    _WEIGHTS: ("weights", "CoreML Model Weights"),
}
_DATE = "com.github.apple.coremltools.conversion_date"


def _identifier(item: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, item))


def _without_date(model: Any) -> None:
    """Remove the date from the model's metadata and from the copy of it in the program."""
    model.description.metadata.userDefined.pop(_DATE, None)
    for value in model.mlProgram.attributes.values():
        pairs = value.immediateValue.dictionary.values
        for index in reversed(range(len(pairs))):
            if list(pairs[index].key.immediateValue.tensor.strings.values) == [_DATE]:
                del pairs[index]


def write_package(model: Any, weights: Path, path: Path) -> None:
    """Write the package of a `Model` message and its weight file at `path`; what lay there is replaced.

    Raises:
        EdgeError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    _without_date(model)
    items = {
        _identifier(item): {"author": _AUTHOR, "description": description, "name": name, "path": item}
        for item, (name, description) in _ITEMS.items()
    }
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": dict(sorted(items.items())),
        "rootModelIdentifier": _identifier(_MODEL),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
            folder = Path(scratch) / "package"
            (folder / "Data" / _WEIGHTS).mkdir(parents=True)
            (folder / "Manifest.json").write_text(json.dumps(manifest, indent=4) + "\n")
            (folder / "Data" / _MODEL).write_bytes(model.SerializeToString(deterministic=True))
            shutil.copyfile(weights, folder / "Data" / _WEIGHTS / "weight.bin")
            if path.exists():
                shutil.rmtree(path)
            os.replace(folder, path)
    except OSError as error:
        raise EdgeError(f"cannot write {path}: {error.strerror or error}; free some space and run again") from error


def locate(path: Path) -> tuple[Path, Path]:
    """Model file and weight file of the package at `path`, as its list of items says.

    Raises:
        EdgeError: the folder is not a package or lacks a file.
    """
    again = f"{path} is not a complete Core ML package; export it again"
    try:
        manifest = json.loads((path / "Manifest.json").read_bytes())
        model = path / "Data" / manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EdgeError(f"{again} (Manifest.json: {type(error).__name__})") from error
    weights = model.parent / "weights" / "weight.bin"
    for file in (model, weights):
        if not file.resolve().is_relative_to(path.resolve()) or not file.is_file():
            raise EdgeError(f"{again} (no {file.name})")
    return model, weights
