"""Training of the decoder: which faces a critic is listened to about."""

import pytest
import torch

from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.integer.encoder import IntegerEncoder
from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.config.recipe import CriticTraining, DecoderTraining
from edge_stscq.data.loader import Augmentation, FaceSet, Loader
from edge_stscq.training.losses import FrozenRecognizer
from edge_stscq.training.precision import Precision
from edge_stscq.training.stages.decoder import DecoderStage
from tests.training.integer import CODEC

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("by_layer", "listened"),
    [((), [True] * 3), ((0.0, 1.0, 1.0), [False, True, True]), ((1.0, 0.0, 0.5), [True, False, True])],
)
def test_critic_is_listened_to_by_layer(faces: FaceSet, by_layer: tuple[float, ...], listened: list[bool]) -> None:
    torch.manual_seed(0)
    plan = DecoderTraining(steps=20, batch=3, critic=CriticTraining(weight=0.5, begin=0, by_layer=by_layer))
    looks = [FrozenRecognizer(IdentityTrunk((8,) * 6))]
    stage = DecoderStage(
        IntegerEncoder(CODEC), Decoder(CODEC), looks, Loader(faces, 3, 1, Augmentation()), faces, plan, 0.9,
        Precision(torch.float32, ""), CPU,
    )  # fmt: skip
    decoded = torch.rand(3, 3, 128, 128, requires_grad=True)
    said = stage._criticize(0, decoded, torch.rand(3, 3, 128, 128), torch.tensor([1, 2, 3]), {})
    assert isinstance(said, torch.Tensor)
    said.backward()
    assert decoded.grad is not None
    assert (decoded.grad.abs().amax((1, 2, 3)) > 0).tolist() == listened
