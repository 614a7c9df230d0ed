"""The identity trunk learns what the recognizer says of every picture as it sees it, blends of two faces among them."""

import torch
from torch.nn import functional

from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.data.loader import Augmentation, FaceSet, Loader
from edge_stscq.training.embeddings import trunk_input
from edge_stscq.training.stages.distillation import DistillSettings
from edge_stscq.training.stages.identity_distillation import IdentityDistillation


def begin(faces: FaceSet, blends: float, steps: int = 1) -> IdentityDistillation:
    torch.manual_seed(0)
    trunk, whole = IdentityTrunk((8,) * 6, plain=True), IdentityTrunk((8,) * 6)
    whole(torch.randn(64, 3, 112, 112))  # its norms get used to something
    whole.eval().requires_grad_(False)
    settings = DistillSettings(steps=steps, batch=8, rate=1e-2, blends=blends)
    return IdentityDistillation(trunk, whole, Loader(faces, 8, 1, Augmentation()), settings, torch.device("cpu"))


def asked(faces: FaceSet, blends: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures that the recognizer was shown in a step, and the batch as it was before."""
    task = begin(faces, blends)
    shown: list[torch.Tensor] = []
    task.recognizer.features[0].register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].clone()))
    task.step(0)
    (images,) = shown
    return images, trunk_input(Loader(faces, 8, 1, Augmentation()).get(0).images)


def test_recognizer_sees_the_batch_as_it_is_without_blends(faces: FaceSet) -> None:
    """Without blends the recognizer sees the batch as it is."""
    shown, batch = asked(faces, 0.0)
    assert torch.equal(shown, batch)


def test_recognizer_sees_blends_of_two_as_their_share(faces: FaceSet) -> None:
    """The recognizer sees blends of two as its share of the batch."""
    shown, batch = asked(faces, 0.75)
    assert torch.equal(shown[6:], batch[6:])
    for blend, first, second in zip(shown[:6], batch, batch.flip(0), strict=False):
        share = float(((blend - second) * (first - second)).sum() / (first - second).square().sum())
        assert 0.5 <= share <= 1
        assert float(functional.mse_loss(blend, share * first + (1 - share) * second)) < 1e-8
        assert not torch.equal(blend, first)


def test_the_trunk_learns_the_embedding_and_the_last_map(faces: FaceSet) -> None:
    task = begin(faces, 0.0, steps=16)
    first, *_, last = (task.step(index) for index in range(16))
    assert float(first["features"]) < 1  # the reader starts as the best linear one
    assert float(last["features"]) < 0.9 * float(first["features"])
    assert float(last["cosine"]) > float(first["cosine"]) + 0.2
