"""The recognizer that judges decoded faces in a benchmark.

The held-out one judges releases alone, and a model's card counts its runs: whoever chooses by a judge trains with it,
slowly. Rehearsals take the one that training saw.
"""

from typing import Annotated

import typer

from edge_stscq.recognizers import HELD_OUT, SEEN_IN_TRAINING

Judge = Annotated[str, typer.Option(help=f"Recognizer that judges: {HELD_OUT}, or {SEEN_IN_TRAINING} to rehearse.")]
