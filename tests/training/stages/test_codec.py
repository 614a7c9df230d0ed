"""Parts that learn in each kind of stage."""

import pytest
import torch

from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import teacher
from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.config.recipe import Distillation, Recipe, Stage
from edge_stscq.data.loader import Augmentation, FaceSet, Loader
from edge_stscq.training.losses import FrozenRecognizer
from edge_stscq.training.stages.codec import CodecStage
from tests.training.tiny import CODEC


@pytest.mark.parametrize(
    ("stage", "learn"),
    [
        (Stage(name="a", tokens="specific", steps=2, size=32), {"spatial", "head", "router", "decoder", "codebooks"}),
        (Stage(name="b", tokens="specific", steps=2, size=32, train_encoder=False), {"router", "decoder", "codebooks"}),
        (Stage(name="c", tokens="frozen", steps=2, size=32), {"decoder"}),
    ],
    ids=lambda value: value.name if isinstance(value, Stage) else None,
)
def test_what_learns_in_a_stage(stage: Stage, learn: set[str], faces: FaceSet) -> None:
    torch.manual_seed(0)
    recipe = Recipe(
        faces=("x",), recogniser="x", batch=4, codec=CODEC, stages=(stage,),
        distillation=Distillation(identity_steps=1, token_steps=1),
    )  # fmt: skip
    task = CodecStage(
        teacher(CODEC), Decoder(CODEC), FrozenRecognizer(IdentityTrunk((8,) * 6)), torch.randn(24, 2, 128),
        Loader(faces, 4, 1, Augmentation()), faces, recipe, stage, torch.device("cpu"),
    )  # fmt: skip
    before = {name: value.clone() for name, value in task.nets.state_dict().items()}
    for index in range(2):
        task.step(index)
    after = task.nets.state_dict()
    changed = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert changed == learn
