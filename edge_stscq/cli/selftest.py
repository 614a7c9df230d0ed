"""`edge-stscq selftest`: does a bundle still answer as it did when it was exported?"""

import json
from typing import Annotated

import typer

from edge_stscq.cli.options import BundleArgument, TrustedKey
from edge_stscq.cli.ui import count

_SIGNED = {
    "no": "not signed",
    "yes": "signed by the trusted key",
    "unchecked": "signed, by whom --trusted-key tells",
}


def selftest(
    bundle: BundleArgument,
    trusted_key: TrustedKey = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Verify every hash of a bundle, replay its golden vectors and compare all tokens; exit code 1 if one is wrong."""
    from edge_stscq.bundle import open_bundle
    from edge_stscq.bundle import selftest as replay
    from edge_stscq.errors import EXIT_CHECK_FAILED
    from targets.subprocess_check import load_encoder_or_reference

    opened = open_bundle(bundle, trusted_key)
    signed = "no" if not opened.signed else "yes" if trusted_key is not None else "unchecked"
    encoder = load_encoder_or_reference(opened, verify=False)
    result = replay(opened, encoder)
    covered = len(set(opened.golden.groups.tolist()))
    if as_json:
        report = {
            "bundle": str(bundle), "target": opened.manifest.target, "model_id": opened.manifest.model_id,
            "runtime": encoder.runtime, "signed": signed, "passed": result.passed, "vectors": result.vectors,
            "groups_equal": result.groups_equal, "tokens_equal": result.tokens_equal, "tokens": result.tokens,
            "ties": result.ties, "payloads_equal": result.payloads_equal, "payloads": result.payloads,
            "groups_covered": covered, "groups": opened.config.groups,
            "first_difference": None if result.first is None else str(result.first),
        }  # fmt: skip
        typer.echo(json.dumps(report))
    else:
        typer.echo(
            f"{len(opened.manifest.files)} files match their hashes; model {opened.manifest.model_id}; "
            f"{_SIGNED[signed]}"
        )
        typer.echo(f"{result.vectors} golden pictures reach {covered} of {opened.config.groups} groups")
        typer.echo(
            f"{encoder.runtime}: {result.groups_equal} of {result.vectors} groups and "
            f"{result.tokens_equal} of {result.tokens} tokens as at export"
            + (f", {count(result.ties, 'token')} at a tie went the other way" if result.ties else "")
        )
        typer.echo(
            f"{result.payloads_equal} of {result.payloads} payloads coded and read back as at export"
            if result.payloads
            else "no payloads to replay: the bundle is of a format before 3"
        )
        typer.echo("passed" if result.passed else f"FAILED: {result.first}; export the bundle on this machine again")
    if not result.passed:
        raise typer.Exit(EXIT_CHECK_FAILED)
