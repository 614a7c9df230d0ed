"""The identity trunk learns from blends of faces that the recogniser is asked about on the spot."""

import torch
from torch.nn import functional

from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.training.data import Augmentation, FaceSet, Loader
from edge_stscq.training.distill import DistillSettings, IdentityDistillation
from edge_stscq.training.embeddings import centre


def asked(faces: FaceSet, blends: float) -> tuple[list[torch.Tensor], torch.Tensor]:
    """What the recogniser was shown in a step, and the batch as it was before."""
    torch.manual_seed(0)
    trunk, whole = IdentityTrunk((8,) * 6, plain=True), IdentityTrunk((8,) * 6).eval().requires_grad_(False)
    settings = DistillSettings(steps=1, batch=8, rate=1e-3, blends=blends)
    loader = Loader(faces, 8, 1, Augmentation())
    task = IdentityDistillation(trunk, whole, torch.randn(24, 2, 128), loader, settings, torch.device("cpu"))
    shown: list[torch.Tensor] = []
    task.whole.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].clone()))
    task.step(0)
    return shown, centre(Loader(faces, 8, 1, Augmentation()).get(0).images)


def test_no_blends_need_no_recogniser(faces: FaceSet) -> None:
    assert asked(faces, 0.0)[0] == []


def test_the_recogniser_sees_its_share_of_the_batch_each_a_blend_of_two(faces: FaceSet) -> None:
    (shown,), batch = asked(faces, 0.75)
    assert len(shown) == 6
    for blend, first, second in zip(shown, batch, batch.flip(0), strict=False):
        share = float(((blend - second) * (first - second)).sum() / (first - second).square().sum())
        assert 0.5 <= share <= 1
        assert float(functional.mse_loss(blend, share * first + (1 - share) * second)) < 1e-8
        assert not torch.equal(blend, first)
