"""`train`, `distill` and `finetune` from a recipe to a complete model folder, also with two processes."""

import json
import re
from pathlib import Path

import pytest
import torch

from edge_stscq.bundle import model_folder
from edge_stscq.codec import store
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import student, teacher
from edge_stscq.config.codec import CodecConfig
from edge_stscq.config.recipe import Recipe
from edge_stscq.errors import EdgeError
from tests.conftest import REPOSITORY
from tests.support.commands import run_commands, run_commands_afresh
from tests.training.integer import write_data, write_recognizer

pytestmark = pytest.mark.slow

RECIPE = """
faces = ["pictures"]
typical = ["typical"]
recogniser = "sface.safetensors"
batch = 4
latents = 100

[codec]
name = "tiny"
groups = 2
entries = 4
dim = 4
layers = [
    { name = "basic", identity = 2, spatial = 2, identity_dims = 8 },
    { name = "middle", identity = 2, spatial = 2, identity_dims = 8 },
    { name = "enhanced", identity = 0, spatial = 2 },
]
teacher_width = 16
student_width = 48
student_trunk = [8, 8, 8, 8, 8, 8]
decoder_channels = [16, 16, 8, 8]
style_dim = 16

[[stages]]
name = "shared"
tokens = "shared"
steps = 2
size = 32
semantic_share = 0.0

[[stages]]
name = "specific"
tokens = "specific"
steps = 2
size = 32

[[stages]]
name = "decoder"
tokens = "frozen"
steps = 2
losses = { adversarial = 0.1 }

[distillation]
identity_steps = 2
token_steps = 2
blends = 0.5
batch = 4

[finetuning]
steps = 2
batch = 4
noise = 0.05
trunks = [[8, 8, 8, 8, 8, 8]]
losses = { smooth = 1.0 }
"""


@pytest.fixture(scope="module")
def data(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("pictures", "typical"):
        (folder / name).mkdir()
    for index in range(12):  # with their mirror images, more than the 16 dimensions of the identity tokens
        (folder / "pictures" / f"{index:02d}.png").symlink_to(pictures / f"{index:02d}.png")
    (folder / "typical" / "00.png").symlink_to(pictures / "00.png")
    (folder / "recipe.toml").write_text(RECIPE)
    write_recognizer(folder / "sface.safetensors")
    return folder


def test_two_processes_make_a_complete_model_of_a_recipe(data: Path, pictures: Path, tmp_path: Path) -> None:
    """One process alone is tried stage by stage in `tests/training`.

    The same two also fit the teacher of a student made for integers: to start them takes longer than that.
    """
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29517")
    common = ("--recipe", data / "recipe.toml", "--data", data, "-o", tmp_path)
    other = tmp_path / "other.toml"
    other.write_text(RECIPE.replace("noise = 0.05", "noise = 0.1"))
    (tmp_path / "integer").mkdir()
    integer = write_data(tmp_path / "integer", pictures)
    trained, distilled, tuned, fitted = run_commands_afresh(
        ("train", *common, "--threads", 1),
        ("distill", *common, "--threads", 1, "--model", tmp_path / "decoder" / "model", "--json", "--quiet"),
        ("finetune", *common, "--threads", 1, "--model", tmp_path / "distilled"),
        ("train", "--recipe", integer / "recipe.toml", "--data", integer, "-o", integer / "out", "--threads", 1),
        launcher=launcher,
    )
    again, refused = run_commands(
        ("train", *common, "--resume"),
        ("finetune", "--recipe", other, *common[2:], "--model", tmp_path / "model", "--resume"),
    )
    assert trained.returncode == 0, trained.stderr
    model = tmp_path / "decoder" / "model"
    assert re.fullmatch(
        rf"teacher in {model} after \d+\.\d s\nnext: edge-stscq distill --recipe \S+ --data {data} --model {model} "
        rf"-o {tmp_path}\n",
        trained.stdout,
    ), "said once, by the first of them"
    assert distilled.returncode == 0, distilled.stderr
    report = json.loads(distilled.stdout)
    assert report["model"] == str(tmp_path / "distilled")
    assert str(tmp_path / "student" / "log.jsonl") in report["logs"]
    assert report["next"].startswith("edge-stscq finetune --recipe")
    assert tuned.returncode == 0, tuned.stderr
    assert "next: edge-stscq quantize" in tuned.stdout
    model = tmp_path / "model"
    for head in (store.load_teacher(model).head.identity, store.load_student(model).head.identity):
        assert not torch.equal(head.centre, head.mean), "the centre is that of the typical faces alone"
    before, after = (store.load_decoder(folder).state_dict() for folder in (tmp_path / "distilled", model))
    assert not torch.equal(before["seed"], after["seed"])
    group, tokens = store.load_student(model)(torch.zeros(1, 128, 128, 3, dtype=torch.uint8))
    assert store.load_decoder(model).decode(group, tokens).shape == (1, 128, 128, 3)
    assert model_folder.load_config(model).token_specific
    assert len((model / "log.jsonl").read_text().splitlines()) == 6
    assert fitted.returncode == 0, fitted.stderr
    assert model_folder.load_tables(integer / "out" / "closed-form" / "model").shape == (2, 20, 4)
    assert again.returncode == 0, again.stderr
    assert refused.returncode == 2
    assert "another recipe (finetuning.noise changed)" in refused.stderr.replace("\n", " ")


@pytest.mark.parametrize("path", ["README.md", "docs/training.md"])
def test_torchrun_leaves_the_options_of_the_command_alone(path: str) -> None:
    """It looks for its own among them, by their beginnings: `--start` could be its `--start-method`."""
    from torch.distributed.run import config_from_args, parse_args

    (line,) = re.findall(r"^torchrun (.+?)(?: \.\.\..*)?$", (REPOSITORY / path).read_text(), re.M)
    words = [*line.split(), "--start", "MODEL", "--log-every", "2"]
    _, _, run = config_from_args(parse_args(words))
    assert run[-len(words) + words.index("--") :] == ["-m", *words[words.index("--") + 1 :]]


def test_the_identity_trunk_alone_goes_on_from_a_student(data: Path, tmp_path: Path) -> None:
    begun, recipe = tmp_path / "begun", tmp_path / "recipe.toml"
    plan = Recipe.load(data / "recipe.toml")
    networks = teacher(plan.codec), Decoder(plan.codec), student(plan.codec)
    networks[2].head.identity.load_state_dict(networks[0].head.identity.state_dict())
    networks[2].codebooks.load_state_dict(networks[0].codebooks.state_dict())
    begun.mkdir()
    plan.codec.save(begun / "config.json")
    for save, network in zip((store.save_teacher, store.save_decoder, store.save_student), networks, strict=True):
        save(begun, network)
    recipe.write_text(RECIPE.replace("token_steps = 2", "token_steps = 0"))
    common = ("--recipe", recipe, "--data", data, "-o", tmp_path / "out", "--model", begun, "--start", begun)
    (done,) = run_commands(("distill", *common))
    assert done.returncode == 0, done.stderr
    after = store.load_student(tmp_path / "out" / "distilled").state_dict()
    moved = {name for name, value in networks[2].state_dict().items() if not torch.equal(value, after[name])}
    assert moved
    assert all(name.startswith("backbone.identity.") for name in moved)


def test_a_recipe_with_three_fields_for_layers_is_still_read(model_of_format_1: Path) -> None:
    recipe = Recipe.load(model_of_format_1 / "recipe.toml")
    assert recipe.codec == CodecConfig.load(model_of_format_1 / "config.json")


def test_a_bad_recipe_is_one_line(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(RECIPE.replace("entries = 4", "entries = 1"))
    with pytest.raises(EdgeError, match=r"codec.entries"):
        Recipe.load(path)
    path.write_text(RECIPE.replace("smooth = 1.0", "adversarial = 1.0"))
    with pytest.raises(EdgeError, match=r"finetuning.losses.*no adversarial term"):
        Recipe.load(path)
    path.write_text(RECIPE.replace("losses = { adversarial = 0.1 }", "losses = { pixel_by_layer = [0.5, 1.0] }"))
    with pytest.raises(EdgeError, match=r"stage decoder: losses.pixel_by_layer has 2 numbers for a codec of 3 layers"):
        Recipe.load(path)
    path.write_text(RECIPE.replace("losses = { adversarial = 0.1 }", "layer_odds = [0, 0, 0]"))
    with pytest.raises(EdgeError, match=r"stage decoder: layer_odds are all zero"):
        Recipe.load(path)
    path.write_text("faces = [")
    with pytest.raises(EdgeError, match="not TOML"):
        Recipe.load(path)
    (result,) = run_commands(("train", "--recipe", tmp_path / "none.toml", "--data", data))
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
