"""Training some steps gives the same weights as training half of them, stopping, and resuming for the rest."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_stscq._reporter import SILENCE
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import student, teacher
from edge_stscq.codec.integer.encoder import IntegerEncoder
from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.config.recipe import (
    CriticTraining,
    DecoderTraining,
    Distillation,
    Finetuning,
    Losses,
    Recipe,
    Stage,
    StudentTraining,
)
from edge_stscq.data.loader import Augmentation, FaceSet, Loader
from edge_stscq.errors import EdgeError
from edge_stscq.training.embeddings import trunk_input
from edge_stscq.training.init.integer_student import fit_steps
from edge_stscq.training.loop import CHECKPOINT, LOG, Intervals, Task, run_task
from edge_stscq.training.losses import FrozenRecognizer
from edge_stscq.training.options import PrecisionName
from edge_stscq.training.precision import choose_precision
from edge_stscq.training.stages import decoder
from edge_stscq.training.stages.codec import CodecStage
from edge_stscq.training.stages.decoder_finetuning import DecoderFinetuning
from edge_stscq.training.stages.distillation import DistillSettings
from edge_stscq.training.stages.front_matching import FrontMatching
from edge_stscq.training.stages.identity_distillation import IdentityDistillation
from edge_stscq.training.stages.integer_student import IntegerDistillation
from edge_stscq.training.stages.token_distillation import TokenDistillation
from tests.training.integer import CODEC as INTEGER
from tests.training.integer import FLOAT
from tests.training.stages.test_integer_student import SINGLE, networks
from tests.training.tiny import CODEC

STEPS, COUNT = 8, 10
"""Steps of a whole run, two faces each, and faces: a resumed run begins a second round of them."""
STAGE = Stage(name="specific", tokens="specific", steps=STEPS, size=32, losses=Losses(adversarial=0.1))
RECIPE = Recipe(
    faces=("x",), recogniser="x", batch=2, codec=CODEC, stages=(STAGE,),
    distillation=Distillation(identity_steps=STEPS, token_steps=STEPS),
)  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def faces(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> FaceSet:
    folder = tmp_path_factory.mktemp("few")
    for picture in sorted(pictures.iterdir())[:COUNT]:
        (folder / picture.name).symlink_to(picture)
    return FaceSet([folder])


def codec(faces: FaceSet) -> Task:
    torch.manual_seed(0)
    encoder, decoder = teacher(CODEC), Decoder(CODEC)
    return CodecStage(
        encoder, decoder, FrozenRecognizer(IdentityTrunk((8,) * 6)), torch.randn(COUNT, 2, 128),
        Loader(faces, 2, 1, Augmentation()), faces, RECIPE, STAGE, CPU,
    )  # fmt: skip


def identity(faces: FaceSet) -> Task:
    torch.manual_seed(0)
    settings = DistillSettings(steps=STEPS, batch=2, rate=1e-3, blends=0.5)
    trunk, whole = IdentityTrunk((8,) * 6, plain=True), IdentityTrunk((8,) * 6).eval().requires_grad_(False)
    return IdentityDistillation(trunk, whole, Loader(faces, 2, 1, Augmentation()), settings, CPU)


def tokens(faces: FaceSet) -> Task:
    torch.manual_seed(0)
    settings = DistillSettings(steps=STEPS, batch=2, rate=1e-3)
    return TokenDistillation(
        teacher(CODEC), student(CODEC), torch.randn(COUNT, 2, 128), Loader(faces, 2, 1, Augmentation()), settings, CPU
    )


def finetune(faces: FaceSet) -> Task:
    torch.manual_seed(0)
    looks = [FrozenRecognizer(IdentityTrunk((8,) * 6)), FrozenRecognizer(IdentityTrunk((8,) * 6, plain=True))]
    plan = Finetuning(steps=STEPS, batch=2, noise=0.1, losses=Losses(smooth=1))
    loader = Loader(faces, 2, 1, Augmentation())
    return DecoderFinetuning(student(CODEC), Decoder(CODEC), looks, loader, faces, plan, 0.9, CPU)


def integer_student(faces: FaceSet) -> Task:
    teacher, learner = networks()
    fit_steps(learner.identity, trunk_input(torch.from_numpy(np.stack([faces.crop(index) for index in range(8)]))))
    plan = StudentTraining(steps=STEPS, batch=2)
    return IntegerDistillation(teacher, learner, Loader(faces, 2, 1, Augmentation()), plan, 0.9, SINGLE, CPU, taken=2)


def front(faces: FaceSet) -> Task:
    torch.manual_seed(0)
    trunk = student(FLOAT).backbone.identity
    return FrontMatching(IntegerEncoder(INTEGER).identity, trunk, 4, Loader(faces, 2, 1, Augmentation()), STEPS, CPU)


def decoding(faces: FaceSet, critic: bool = True) -> Task:
    """The decoder on an integer student's tokens, from half of the steps on before a critic."""
    torch.manual_seed(0)
    plan = DecoderTraining(steps=STEPS, batch=2, noise=0.1, critic=CriticTraining(weight=0.1) if critic else None)
    looks = [FrozenRecognizer(IdentityTrunk((8,) * 6))]
    precision = choose_precision(PrecisionName.FLOAT32, CPU)
    loader = Loader(faces, 2, 1, Augmentation())
    return decoder.DecoderStage(
        IntegerEncoder(INTEGER), Decoder(INTEGER), looks, loader, faces, plan, 0.9, precision, CPU
    )


def drive(task: Task, steps: int, folder: Path, resume: bool = False) -> dict[str, torch.Tensor]:
    run_task(task, "stage", steps, folder, Intervals(log=2, checkpoint=2, sample=50), resume, SILENCE)
    return task.state()


@pytest.mark.parametrize("make", [codec, identity, tokens, finetune, front, integer_student, decoding])
def test_a_resumed_run_is_the_run_that_was_not_interrupted(
    make: Callable[[FaceSet], Task], faces: FaceSet, tmp_path: Path
) -> None:
    whole = drive(make(faces), STEPS, tmp_path / "whole")
    assert all(value.isfinite().all() for value in whole.values())
    drive(make(faces), STEPS // 2, tmp_path / "parts")
    parts = drive(make(faces), STEPS, tmp_path / "parts", resume=True)
    assert whole.keys() == parts.keys()
    different = [name for name in whole if not torch.equal(whole[name], parts[name])]
    assert different == []
    rows = [json.loads(line) for line in (tmp_path / "parts" / LOG).read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6, 8]
    assert (tmp_path / "parts" / "stage-000008.png").stat().st_size > 0


def test_what_was_logged_after_the_last_checkpoint_is_dropped(faces: FaceSet, tmp_path: Path) -> None:
    drive(identity(faces), 2, tmp_path)
    with (tmp_path / LOG).open("a") as log:
        log.write(json.dumps({"stage": "stage", "step": 3}) + "\n")
    drive(identity(faces), 4, tmp_path, resume=True)
    assert [json.loads(line)["step"] for line in (tmp_path / LOG).read_text().splitlines()] == [2, 4]


def test_an_unfinished_run_is_not_overwritten_by_accident(faces: FaceSet, tmp_path: Path) -> None:
    drive(identity(faces), 1, tmp_path)
    with pytest.raises(EdgeError, match="add --resume"):
        drive(identity(faces), 2, tmp_path)


def test_checkpoint_of_another_configuration_is_kept(faces: FaceSet, tmp_path: Path) -> None:
    """A checkpoint of another configuration is refused and kept."""
    drive(identity(faces), 1, tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(EdgeError, match="another configuration"):
        drive(tokens(faces), 2, tmp_path, resume=True)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize(("begun", "message"), [(False, "made without a critic"), (True, "made with a critic")])
def test_checkpoint_without_critic_is_not_resumed_with_one(
    faces: FaceSet, tmp_path: Path, begun: bool, message: str
) -> None:
    drive(decoding(faces, critic=begun), 1, tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(EdgeError, match=message):
        drive(decoding(faces, critic=not begun), 2, tmp_path, resume=True)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
