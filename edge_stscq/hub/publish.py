"""`python -m edge_stscq.hub.publish MODEL BUNDLES`: write the index anew, and a place to pull from.

What lies in MODEL and in the folders below BUNDLES is described in the index beside this file; with `-o` it is also
copied to where a server or a folder can offer it. Releases of other models stay in the index: their faces are stored.
"""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from edge_stscq._files import write_file
from edge_stscq.bundle import open_bundle
from edge_stscq.bundle.manifest import MANIFEST
from edge_stscq.config.codec import CodecConfig
from edge_stscq.errors import EdgeError
from edge_stscq.hub.index import INDEX, Index, describe, folder_of

HERE = Path(__file__).resolve().parent / INDEX


def publish(model: Path, bundles: Path, output: Path | None = None, index: Path = HERE) -> Index:
    """Describe a model and its bundles in an index file, in place of what it says of them; also copy them to `output`.

    Raises:
        EdgeError: a bundle is damaged or of another model.
    """
    name = CodecConfig.load(model / "config.json").name
    sources = {name: model}
    for folder in sorted(path.parent for path in bundles.glob(f"*/{MANIFEST}")):
        if open_bundle(folder).config.name != name:
            raise EdgeError(f"{folder} is of another model than {model}; export it again")
        sources[f"{name}:{folder.name}"] = folder
    before = Index.model_validate_json(index.read_bytes()).releases if index.exists() else {}
    others = {key: release for key, release in before.items() if key.partition(":")[0] != name}
    made = Index(releases={key: describe(key, folder) for key, folder in sources.items()} | others)
    if output is not None:
        for name, folder in sources.items():
            shutil.copytree(folder, output / folder_of(name), dirs_exist_ok=True)
    write_file(index, (made.model_dump_json(indent=1) + "\n").encode())
    return made


def main(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    bundles: Annotated[Path, typer.Argument(help="Folder of its bundles.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Copy the files here, to be pulled.")] = None,
    index: Annotated[Path, typer.Option(help="Index to write.")] = HERE,
) -> None:
    """Write the index of what is released, and a place that offers it."""
    for name, release in publish(model, bundles, output, index).releases.items():
        typer.echo(f"{name}: {len(release.files)} files, {release.size:,} bytes")


if __name__ == "__main__":
    typer.run(main)
