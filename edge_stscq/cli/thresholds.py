"""`edge-stscq thresholds`: from which score on to believe a match, measured on false matches."""

from pathlib import Path
from typing import Annotated

import typer

from edge_stscq.cli.options import FOLDER, MODEL, AsJson, Model, folder
from edge_stscq.cli.ui import progress_bar


def thresholds(
    crops: Annotated[
        list[Path], typer.Option(help="Folder or .tar of aligned crops that no training has seen; repeat for more.")
    ],
    identities: Annotated[
        Path | None, typer.Option(help="CSV of who is on them: a line name,identity and any labels, then the crops.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="LFW's pairs.txt, too or instead: the crops in it, whose names are people."),
    ] = None,
    model: Model = MODEL,
    bundle: Annotated[
        Path | None,
        typer.Option(parser=folder, metavar=FOLDER, help="Encode with this bundle instead of the float32 encoder."),
    ] = None,
    cohort: Annotated[
        list[Path] | None,
        typer.Option(
            help="Crops of other people, to hold scores against; repeat for more. Otherwise the model's cohort."
        ),
    ] = None,
    templates: Annotated[
        bool, typer.Option("--templates", help="Of protected templates instead, by scheme; for `matcher serve`.")
    ] = False,
    save: Annotated[
        bool, typer.Option("--save", help="Keep them in the model folder; bundles exported later carry the plain ones.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure the scores that 1 in 1,000 and 1 in 10,000 pairs of strangers pass, by layer, and false matches by label.

    Over all pairs of different people, in the compressed domain. Servers and devices read them from the model.
    """
    from rich.console import Console

    from edge_stscq import api
    from edge_stscq.cli.tables import template_thresholds_table, thresholds_table
    from edge_stscq.errors import EdgeError, require

    require("torch", "train")
    from edge_stscq.codec.model import Codec
    from edge_stscq.evaluation.artifact import coded_by

    codec = Codec.load(model)
    if bundle is not None:
        codec = coded_by(codec, bundle)
    if templates:
        if cohort:
            raise EdgeError("templates are not held against a cohort, which would tell of the face; leave out --cohort")
        of = api.template_thresholds(codec, crops, identities=identities, pairs=pairs, steps=progress_bar)
        if save:
            of.save(model)
        if as_json:
            typer.echo(of.model_dump_json())
        else:
            Console().print(template_thresholds_table(of))
        return
    found = api.thresholds(codec, crops, identities=identities, pairs=pairs, cohort=cohort or (), steps=progress_bar)
    if save:
        found.save(model)
    if as_json:
        typer.echo(found.thresholds.model_dump_json())
        return
    Console().print(thresholds_table(found.thresholds))
