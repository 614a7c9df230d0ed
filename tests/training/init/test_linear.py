"""The closed-form start is a codec already: linear, and better than guessing."""

import torch

from edge_stscq.codec.decoder import Decoder
from edge_stscq.config.codec import CodecConfig, LayerConfig
from edge_stscq.training.init.linear import fit_sketch, pca_targets

CONFIG = CodecConfig(
    name="x", groups=1, entries=8, dim=4,
    layers=(
        LayerConfig(name="basic", identity=2, spatial=0, identity_dims=4),
        LayerConfig(name="middle", identity=0, spatial=2),
        LayerConfig(name="enhanced", identity=0, spatial=3),
    ),
    decoder_channels=(8, 8, 8, 8), style_dim=8,
)  # fmt: skip


def pictures(count: int, size: int) -> torch.Tensor:
    """Pictures with few degrees of freedom, the first ones strongest."""
    generator = torch.Generator().manual_seed(1)
    patterns = torch.randn(12, 3 * size * size, generator=generator)
    strength = torch.arange(12, 0, -1.0).square() / 1000
    return ((torch.randn(count, 12, generator=generator) * strength) @ patterns).view(count, 3, size, size)


def test_pca_targets_put_the_strongest_components_first() -> None:
    """Components go strongest first and leave half of each token free."""
    z = pca_targets(pictures(300, 16), CONFIG)
    assert z.shape == (300, 5, 4)
    used = z.abs().amax(0) > 0
    assert used.sum(1).tolist() == [2] * 5
    variance = z.var(0)[used]
    torch.testing.assert_close(variance.mean(), torch.tensor(1.0), atol=0.02, rtol=0)
    assert float(variance[:4].min()) > float(variance[4:].max())  # the middle layer takes the four strongest
    flat = z.flatten(1)[:, used.flatten()]
    correlation = torch.corrcoef(flat.t()) - torch.eye(flat.shape[1])
    assert float(correlation.abs().max()) < 1e-3


def test_every_layer_makes_the_first_sketch_better() -> None:
    x = pictures(300, 32)
    z = torch.cat([torch.randn(300, 2, 4), pca_targets(x, CONFIG)], dim=1)
    decoder = Decoder(CONFIG).eval()
    fit_sketch(decoder, z, x)
    with torch.no_grad():
        errors = [
            float((decoder(z, torch.full((300,), layers), 32) - x).square().mean() / x.var()) for layers in (1, 2, 3)
        ]
    assert errors[0] > 0.9
    assert errors[1] < 0.7 * errors[0]
    assert errors[2] < 0.5 * errors[1]
