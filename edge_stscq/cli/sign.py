"""`edge-stscq sign`: say with a key who made a bundle."""

import json
from pathlib import Path
from typing import Annotated

import typer

from edge_stscq.cli.options import AsJson
from edge_stscq.cli.ui import note


def sign(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="Private key, ed25519 in PEM, without a password.")],
    as_json: AsJson = False,
) -> None:
    """Sign the manifest of a bundle, once all of it was verified; devices check it with --trusted-key.

    A key: openssl genpkey -algorithm ed25519 -out bundles.key; openssl pkey -in bundles.key -pubout -out bundles.pub
    """
    from edge_stscq.bundle import open_bundle
    from edge_stscq.bundle.signature import sign as write

    opened = open_bundle(bundle)
    path = write(bundle, key)
    typer.echo(json.dumps({"bundle": str(bundle), "signature": str(path), "model_id": opened.manifest.model_id})
               if as_json else path)  # fmt: skip
    note(f"a device asks for it with: edge-stscq selftest {bundle} --trusted-key PUBLIC_KEY")
