"""`edge-stscq selftest`: does a bundle still answer as it did when it was exported?"""

import json
from pathlib import Path
from typing import Annotated

import typer


def selftest(
    bundle: Annotated[Path, typer.Argument(help="Folder made by `export`.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Verify every hash of a bundle, replay its golden vectors and compare all tokens; exit code 1 if one is wrong."""
    from edge_stscq.device import open_bundle
    from edge_stscq.device import selftest as replay
    from edge_stscq.errors import EXIT_CHECK_FAILED
    from targets.check import open_encoder

    opened = open_bundle(bundle)
    encoder = open_encoder(opened, verify=False)
    result = replay(opened, encoder)
    covered = len(set(opened.golden.groups.tolist()))
    if as_json:
        report = {
            "bundle": str(bundle), "target": opened.manifest.target, "model_id": opened.manifest.model_id,
            "runtime": encoder.runtime, "passed": result.passed, "vectors": result.vectors,
            "groups_equal": result.groups_equal, "tokens_equal": result.tokens_equal, "tokens": result.tokens,
            "ties": result.ties, "groups_covered": covered, "groups": opened.config.groups,
            "first_difference": None if result.first is None else str(result.first),
        }  # fmt: skip
        typer.echo(json.dumps(report))
    else:
        typer.echo(f"{len(opened.manifest.files)} files match their hashes; model {opened.manifest.model_id}")
        typer.echo(f"{result.vectors} golden pictures reach {covered} of {opened.config.groups} groups")
        typer.echo(
            f"{encoder.runtime}: {result.groups_equal} of {result.vectors} groups and "
            f"{result.tokens_equal} of {result.tokens} tokens as at export"
            + (f", {result.ties} tokens at a tie went the other way" if result.ties else "")
        )
        typer.echo("passed" if result.passed else f"FAILED: {result.first}; export the bundle on this machine again")
    if not result.passed:
        raise typer.Exit(EXIT_CHECK_FAILED)
