"""The integer student: begun from another network, taught in its own arithmetic."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge_stscq.codec.encoder import EdgeEncoder, student
from edge_stscq.codec.integer.encoder import IntegerEncoder, ReferenceEncoder
from edge_stscq.codec.integer.grid import UNSIGNED
from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.config.recipe import StudentTraining
from edge_stscq.data.loader import Augmentation, FaceSet, Loader
from edge_stscq.training.embeddings import trunk_input
from edge_stscq.training.init.closed_form import Components, set_components
from edge_stscq.training.init.integer_student import (
    fit_projection,
    fit_steps,
    shared_layers,
    take_over_layers,
    take_over_student,
)
from edge_stscq.training.precision import Precision
from edge_stscq.training.stages.front_matching import FrontMatching
from edge_stscq.training.stages.integer_student import IntegerDistillation
from tests.training.integer import CODEC, FLOAT

CPU = torch.device("cpu")
SINGLE = Precision(torch.float32, "")
STILL = Augmentation(shift=0, rotation=0, scale=0, brightness=0, contrast=0)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> FaceSet:
    """Eight drawn faces: skin, eyes, hair and mouth of their own."""
    folder = tmp_path_factory.mktemp("drawn")
    random = np.random.default_rng(0)
    for index in range(8):
        image = np.full((144, 144, 3), random.integers(0, 256, 3), np.uint8)
        cv2.ellipse(image, (72, 78), (44, 56), 0, 0, 360, random.integers(80, 256, 3).tolist(), -1)
        cv2.ellipse(image, (72, 40), (46, 26), 0, 180, 360, random.integers(0, 120, 3).tolist(), -1)
        for x in (55, 89):
            cv2.circle(image, (x, 66), int(random.integers(3, 8)), random.integers(0, 90, 3).tolist(), -1)
        cv2.ellipse(image, (72, 108), (int(random.integers(8, 24)), 6), 0, 0, 360, (60, 40, 160), -1)
        cv2.imwrite(str(folder / f"{index}.png"), image)
    return FaceSet([folder])


def networks() -> tuple[ReferenceEncoder, IntegerEncoder]:
    torch.manual_seed(0)
    teacher = ReferenceEncoder(CODEC)
    teacher.trunk = IdentityTrunk((16,) * 6)  # small enough for a test
    teacher.eval()
    for layer in teacher.trunk.features:
        if isinstance(layer, torch.nn.Conv2d):  # so that a signal comes through all of them
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    basis = torch.linalg.qr(torch.randn(3 * 32 * 32, 8))[0]
    embeddings = torch.randn(300, 128)
    set_components(teacher, embeddings, embeddings, Components(torch.zeros(3 * 32 * 32), basis, torch.ones(8)))
    learner = IntegerEncoder(CODEC)
    given = {name: value for name, value in teacher.state_dict().items() if not name.startswith("trunk.")}
    learner.load_state_dict(given, strict=False)
    return teacher, learner


def pictures(faces: FaceSet) -> torch.Tensor:
    return trunk_input(torch.from_numpy(np.stack([faces.crop(index) for index in range(len(faces))])))


def test_student_learns_drawn_faces_in_a_few_steps(drawn: FaceSet) -> None:
    teacher, learner = networks()
    fit_steps(learner.identity, pictures(drawn))
    loader = Loader(drawn, 8, 1, STILL)
    plan = StudentTraining(steps=40, rate=5e-3, batch=8, blends=0.25)
    task = IntegerDistillation(teacher, learner, loader, plan, 0.5, SINGLE, CPU)
    losses = [{name: float(value) for name, value in task.step(index).items()} for index in range(40)]
    loader.close()
    first, last = losses[0], losses[-1]
    assert last["cosine"] > first["cosine"] + 0.1
    assert last["vectors"] < first["vectors"]
    done = task.result()
    maps = done.identity.maps(pictures(drawn))
    layer = done.identity.layers[-1]
    whole = maps[-2] / torch.exp2(layer.output_exponent.detach().round())
    assert torch.equal(whole, whole.round()), "what was trained lies on its grid"
    assert whole.max() <= UNSIGNED[1]


def test_steps_are_fitted_to_what_layers_give(drawn: FaceSet) -> None:
    _, learner = networks()
    fit_steps(learner.identity, pictures(drawn))
    for layer, seen in zip(learner.identity.layers, learner.identity.maps(pictures(drawn)), strict=False):
        top = float(seen.detach().max() / torch.exp2(layer.output_exponent.detach()))
        assert 100 < top <= 255


def earlier() -> EdgeEncoder:
    torch.manual_seed(1)
    return student(FLOAT).eval().requires_grad_(False)


def test_layers_of_a_plain_trunk_are_taken_over_from_its_end(drawn: FaceSet) -> None:
    teacher, learner = networks()
    trunk = earlier().backbone.identity
    net = learner.identity
    assert shared_layers(net, trunk) == 4
    kept = take_over_layers(net, trunk, 4, pictures(drawn))
    assert len(kept) == 12, "of sixteen channels of the last map"
    given = [layer for layer in trunk.features if isinstance(layer, torch.nn.Conv2d)]
    assert torch.equal(net.layers[-2].weight, given[-2].weight)
    assert torch.equal(net.layers[-1].weight, given[-1].weight[kept])
    loader = Loader(drawn, 8, 1, STILL)
    task = FrontMatching(net, trunk, 4, loader, 60, CPU)
    unlike = [float(task.step(index)["unlike"]) for index in range(60)]
    task.finish()
    assert unlike[-1] < 0.7 * unlike[0]
    fit_projection(net, trunk, kept, teacher, pictures(drawn))
    wanted = teacher.components_of(trunk(pictures(drawn)))
    found = net(pictures(drawn))
    loader.close()
    spread = (wanted - wanted.mean(0)).square().mean()
    assert (found - wanted).square().mean() < spread + 0.01, "no worse than the mean"


def test_trunk_of_other_shapes_shares_nothing() -> None:
    _, learner = networks()
    other = student(FLOAT.model_copy(update={"student_trunk": (8, 8, 8, 8, 8, 8)})).backbone.identity
    assert shared_layers(learner.identity, other) == 0


def test_integer_student_is_translated_to_other_components(drawn: FaceSet) -> None:
    teacher, old = networks()
    fit_steps(old.identity, pictures(drawn))
    _, new = networks()
    generator = torch.Generator().manual_seed(5)
    embeddings = torch.randn(400, 128, generator=generator) @ torch.randn(128, 128, generator=generator)
    new.head.fit(embeddings, embeddings)
    new.head.projection.mul_(old.head.scale)
    take_over_student(new, old)
    old.quantize(False)
    new.quantize(False)
    meant = old.head.embedding(old.layout(old.identity(pictures(drawn)), torch.zeros(8, 8))[:, old.layout.is_identity])
    said = new.head.embedding(new.layout(new.identity(pictures(drawn)), torch.zeros(8, 8))[:, new.layout.is_identity])
    assert torch.nn.functional.cosine_similarity(meant, said).min() > 0.9


def test_taken_over_layers_learn_more_slowly(drawn: FaceSet) -> None:
    teacher, learner = networks()
    loader = Loader(drawn, 8, 1, STILL)
    plan = StudentTraining(steps=200, batch=8, tail=0.25)
    task = IntegerDistillation(teacher, learner, loader, plan, 0.5, SINGLE, CPU, taken=4)
    task.step(150)
    loader.close()
    rates = {id(p): group["lr"] for group in task.optimizer.param_groups for p in group["params"]}
    front, tail = learner.identity.layers[0].weight, learner.identity.layers[-1].weight
    assert rates[id(tail)] == pytest.approx(0.25 * rates[id(front)])
    assert len(rates) == len(task.trained) == len(
        [p for p in (*learner.identity.parameters(), *task.reader.parameters()) if p.requires_grad]
    )  # fmt: skip


def test_sample_is_a_picture(drawn: FaceSet, tmp_path: Path) -> None:
    _, learner = networks()
    loader = Loader(drawn, 8, 1, STILL)
    FrontMatching(learner.identity, earlier().backbone.identity, 4, loader, 1, CPU).sample(tmp_path / "x.png")
    loader.close()
    assert cv2.imread(str(tmp_path / "x.png")).shape == (2 * 14 * 4, 8 * 14 * 4, 3)
