"""Ablation: the same training budget without each part of the codec.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.codec.ablation [--only NAME ...]      -> benchmarks/results/ablation.json

Every variant is the recipe with one thing changed. A variant that was trained and judged before, in the same output
folder, is not trained again; an interrupted one goes on at its last checkpoint.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.judge import Judge
from benchmarks.record import write
from edge_stscq._files import write_file
from edge_stscq.cli.ui import progress_bar, training_bars
from edge_stscq.codec.model import Codec
from edge_stscq.config.recipe import Recipe
from edge_stscq.data.crops import load_faces
from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.verification.layers import evaluate_layers
from edge_stscq.evaluation.verification.pairs import read_pairs
from edge_stscq.recognizers import HELD_OUT, load_recognizers
from edge_stscq.training.float_pipeline import train
from edge_stscq.training.loop import Intervals
from edge_stscq.training.run import TrainingRun, devices

Changes = Mapping[str, Any]
VARIANTS: dict[str, tuple[str, Changes, Changes]] = {
    "recipe": ("the recipe as it is", {}, {}),
    "one-codebook": ("one codebook shared by all positions, no switching", {"groups": 1, "token_specific": False}, {}),
    "switching": ("16 shared codebooks, switched", {"groups": 16, "token_specific": False}, {}),
    "token-specific": ("a codebook for each position, no switching", {"groups": 1}, {}),
    "both": ("a codebook for each position in 16 groups", {"groups": 16}, {}),
    "nearest": ("group by exhaustive search instead of the router", {"group_rule": "nearest"}, {}),
    "even-regions": ("an even grid instead of learned regions", {"regional_pooling": False}, {}),
    "frozen-encoder": ("spatial network and head stay as they start", {}, {"train_encoder": False}),
    "no-identity": ("spatial tokens in place of identity tokens", {"identity": False}, {}),
    "adversarial": ("with the least-squares adversarial term", {}, {"adversarial": 0.05}),
}
"""Name, what it is, changes to the codec and changes to every stage."""


def variant(recipe: Recipe, codec: Changes, stage: Changes) -> Recipe:
    """The recipe with these changes, validated."""
    plain = recipe.model_dump()
    if not codec.get("identity", True):
        for layer in plain["codec"]["layers"]:
            layer |= {"identity": 0, "spatial": layer["identity"] + layer["spatial"], "identity_dims": 0}
    plain["codec"] |= {key: value for key, value in codec.items() if key != "identity"}
    for each in plain["stages"]:
        for key, value in stage.items():
            (each["losses"] if key in each["losses"] else each)[key] = value
    return Recipe.model_validate(plain)


def _claim(folder: Path, recipe: Recipe) -> None:
    """Make a run's folder, or make sure that the one there is of this recipe.

    Raises:
        EdgeError: it was made by another recipe.
    """
    path, text = folder / "recipe.json", recipe.model_dump_json(indent=2)
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_file(path, text.encode())
    elif path.read_text() != text:
        raise EdgeError(f"{folder} was trained by another recipe; remove it or choose another folder with --out")


def main(
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder with faces/, lfw/ and recognisers/.")],
    recipe: Annotated[Path, typer.Option(help="Recipe of the common budget.")] = Path("recipes/ablation.toml"),
    out: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs/ablation"),
    only: Annotated[list[str] | None, typer.Option(help="Only this variant; may be repeated.")] = None,
    first: Annotated[int, typer.Option(help="Judged on the first N pairs; whole folds, two or more.")] = 1200,
    judge: Judge = HELD_OUT,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train and judge the variants and write benchmarks/results/ablation.json."""
    base, chosen = Recipe.load(recipe), only or list(VARIANTS)
    if unknown := set(chosen) - VARIANTS.keys():
        raise EdgeError(f"unknown variant {min(unknown)!r}; choose from {', '.join(VARIANTS)}")
    pairs = read_pairs(data / "lfw" / "pairs.txt").head(first)
    faces = load_faces(data / "lfw" / "lfw-crops.tar", names=pairs.names)
    nets = load_recognizers(data / "recognisers", [judge])
    rows = []
    for name in chosen:
        meaning, codec, stage = VARIANTS[name]
        changed, folder = variant(base, codec, stage), out / name
        result = folder / f"judged-{first}-{judge}.json"
        _claim(folder, changed)
        if not result.exists():
            with devices(device) as where, training_bars(Console(stderr=True)) as reporter:
                cache = out / "embeddings.safetensors"
                model = train(TrainingRun(changed, data, folder, cache, True, Intervals(), where, reporter=reporter))
            with progress_bar(f"{name}: judging", len(faces)) as progress:
                teacher = Codec.load(model, "teacher")
                report = evaluate_layers(teacher, faces, pairs, nets, progress, cache=out, appearance=True)
            write_file(result, report.model_dump_json().encode())
        rows.append({"variant": name, "meaning": meaning, "report": json.loads(result.read_bytes())})
    typer.echo(write("ablation", rows))


if __name__ == "__main__":
    typer.run(main)
