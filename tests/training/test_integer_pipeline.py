"""`train`, `distill` and `finetune` of a codec whose student is made for integers, from crops to a model folder.

Two processes are tried in `tests/cli/test_train.py`, with those of the other kind of student.
"""

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edge_stscq.bundle import model_folder
from edge_stscq.codec import store
from edge_stscq.codec.integer.encoder import IntegerEncoder
from edge_stscq.config.recipe import Recipe
from edge_stscq.errors import EdgeError
from edge_stscq.training import integer_pipeline
from edge_stscq.training.loop import Intervals
from edge_stscq.training.options import PrecisionName
from edge_stscq.training.run import TrainingRun
from tests.support.commands import run_commands
from tests.training.integer import FLOAT, RECIPE, write_data

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), pictures)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all three commands ran, from an earlier model of another kind."""
    out = tmp_path_factory.mktemp("out")
    start = out / "earlier"
    store.create(start, FLOAT)
    common = ("--recipe", data / "recipe.toml", "--data", data, "-o", out, "--threads", 1)
    lines = (
        ("train", "--start", start),
        ("distill", "--model", out / "closed-form" / "model", "--start", start, "--new-tables"),
        ("finetune", "--model", out / "distilled", "--precision", "float32"),
    )
    for words, done in zip(lines, run_commands(*((*words, *common) for words in lines)), strict=True):
        assert done.returncode == 0, done.stderr
        (out / f"{words[0]}.txt").write_text(done.stderr.replace("\n", " "))
    return out


def test_chain_makes_a_complete_model(trained: Path) -> None:
    model = trained / "model"
    student = store.load_student(model)
    assert isinstance(student, IntegerEncoder)
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8))
    group, tokens = student(image)
    assert tokens[:, :8].max() < 3, "entries beyond a layer's share are never chosen"
    assert store.load_decoder(model).decode(group, tokens).shape == (2, 128, 128, 3)
    assert "precision: float32, as asked" in (trained / "finetune.txt").read_text()
    assert model_folder.load_tables(model).shape == (2, 20, 4)
    phases = {json.loads(line)["stage"] for line in (model / "log.jsonl").read_text().splitlines()}
    assert phases == {"controls", "front", "student", "finetune"}


def test_controls_are_printed_before_anything_trains(trained: Path) -> None:
    said = (trained / "train.txt").read_text()
    rows = [json.loads(line) for line in (trained / "closed-form" / "log.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == [
        "one codebook shared by all positions", "a codebook for each position", "free groups",
        "groups that share entries",
    ]  # fmt: skip
    assert all(row["name"] in said for row in rows)
    assert [row["entries"] for row in rows] == [3, 3, 3, 3]  # 8 log2 3 + log2 2 bits are 8 log2 3.27


def test_each_phase_changes_its_own_files_only(trained: Path) -> None:
    first, second, last = trained / "closed-form" / "model", trained / "distilled", trained / "model"
    same = lambda a, b, name: (a / name).read_bytes() == (b / name).read_bytes()  # noqa: E731
    for name in ("config.json", "codebooks.safetensors", "teacher.safetensors", "identity.safetensors"):
        assert same(first, last, name), name
    assert same(first, second, "decoder.safetensors")
    assert not same(first, second, "tables.safetensors"), "counted anew on the student's tokens"
    assert same(second, last, "tables.safetensors")
    assert same(second, last, "student.safetensors")
    assert not same(second, last, "decoder.safetensors")


def run(data: Path, out: Path, recipe: str = RECIPE, start: Path | None = None, resume: bool = True) -> TrainingRun:
    plan = Recipe.model_validate(tomllib.loads(recipe))
    cache = out / "embeddings.safetensors"
    return TrainingRun(plan, data, out, cache, resume, Intervals(), torch.device("cpu"), start, PrecisionName.FLOAT32)


def test_training_goes_on_from_what_a_model_keeps(data: Path, trained: Path, tmp_path: Path) -> None:
    kept = load_file(trained / "model" / "training" / "critic.safetensors")
    assert all(value.dtype == torch.float16 for value in kept.values())
    for path in trained.glob("*.safetensors"):
        shutil.copy(path, tmp_path)
    goes_on = run(data, tmp_path, RECIPE.replace("steps = 4\nbatch = 4\nnoise", "steps = 1\nbatch = 4\nnoise"),
                  start=trained / "model")  # fmt: skip
    model = integer_pipeline.finetune(goes_on, trained / "distilled")
    after = load_file(model / "training" / "critic.safetensors")
    assert all(torch.equal(after[name], kept[name]) for name in kept), "the critic learns from a later step on"
    with pytest.raises(EdgeError, match="other codebooks"):
        integer_pipeline.finetune(run(data, tmp_path / "x", start=trained / "earlier"), trained / "distilled")


@pytest.mark.parametrize("new_tables", [False, True])
def test_a_learned_coder_is_dropped_with_the_tables_it_is_relative_to(
    data: Path, trained: Path, tmp_path: Path, new_tables: bool
) -> None:
    model = Path(shutil.copytree(trained / "closed-form" / "model", tmp_path / "earlier"))
    (model / "learned.safetensors").write_bytes(b"weights")
    done = integer_pipeline.distill(run(data, tmp_path, start=trained / "earlier"), model, new_tables)
    assert (done / "learned.safetensors").exists() is not new_tables


def test_a_finished_fit_is_kept_and_not_overwritten(data: Path, trained: Path) -> None:
    before = (trained / "closed-form" / "model" / "codebooks.safetensors").read_bytes()
    with pytest.raises(EdgeError, match="add --resume to keep it"):
        integer_pipeline.train(run(data, trained, resume=False))
    assert integer_pipeline.train(run(data, trained)) == trained / "closed-form" / "model"
    with pytest.raises(EdgeError, match="closed_form.iterations changed"):
        integer_pipeline.train(run(data, trained, RECIPE.replace("iterations = 2", "iterations = 3")))
    assert (trained / "closed-form" / "model" / "codebooks.safetensors").read_bytes() == before


def test_train_refuses_crops_that_are_hardly_picture(data: Path, tmp_path: Path) -> None:
    """Crops that are hardly picture stop before anything is written."""
    (tmp_path / "pictures").symlink_to((data / "pictures").resolve())
    box = [[0, 0], [12, 0], [12, 144], [0, 144]]
    (tmp_path / "pictures.inside.json").write_text(json.dumps({"03.png": box}))
    shutil.copy(data / "sface.safetensors", tmp_path)
    recipe = RECIPE.replace('typical = ["typical"]', "").replace('preview = ["preview"]', "")
    with pytest.raises(EdgeError, match=r"03.png: its quadrilateral leaves"):
        integer_pipeline.train(run(tmp_path, tmp_path / "out", recipe))
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["closed-form", "recipe.json"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[closed_form]\niterations = 2\n", "", "needs closed_form"),
        ("[student]", "[distillation]\nidentity_steps = 1\ntoken_steps = 1\n[student]", "has no distillation"),
        ("identity_dims = 64, entries", "identity_dims = 32, entries", "spreads all 128"),
        ('middle", identity = 8, spatial = 2, identity_dims = 64, spatial_dims = 4', 'middle", identity = 8, '
         "spatial = 2, identity_dims = 64", "middle: a student made for integers needs spatial_dims"),
        ('group_rule = "nearest"', 'group_rule = "router"', "nearest"),
        ("noise = 0.05", "losses = { adversarial = 0.1 }", "give the table `critic`"),
        ("noise = 0.05", "layer_odds = [1.0]", "decoder: layer_odds has 1 numbers for a codec of 3 layers"),
        ("begin = 0.5", "begin = 1.0", r"decoder.critic.begin"),
        ("begin = 0.5", "by_layer = [1, 1]", "decoder: critic.by_layer has 2 numbers for a codec of 3 layers"),
    ],
)  # fmt: skip
def test_bad_recipe_is_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "bad.toml").write_text(RECIPE.replace(old, new, 1))
    with pytest.raises(EdgeError, match=message) as caught:
        Recipe.load(tmp_path / "bad.toml")
    assert "\n" not in str(caught.value)


def test_recipes_of_this_project_are_valid() -> None:
    for path in sorted((Path(__file__).parents[2] / "recipes").rglob("*.toml")):
        Recipe.load(path)
