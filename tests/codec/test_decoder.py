import pytest
import torch
from torch.nn import functional

from edge_stscq.codec.decoder import Decoder, ModulatedConv, _soften_color
from edge_stscq.config.codec import CodecConfig, LayerConfig

LAYERS = tuple(
    LayerConfig(name=name, identity=2, spatial=3, identity_dims=6) for name in ("basic", "middle", "enhanced")
)
CONFIG = CodecConfig(
    name="x", groups=2, entries=8, dim=4, layers=LAYERS,
    decoder_channels=(16, 16, 8, 8), style_dim=16,
)  # fmt: skip


def test_tokens_that_were_not_received_do_not_matter() -> None:
    torch.manual_seed(0)
    decoder = Decoder(CONFIG).eval()
    group, tokens = torch.tensor([0, 1]), torch.randint(0, 8, (2, 15))
    for layers in (1, 2):
        end = CONFIG.layer_ends[layers - 1]
        other = tokens.clone()
        other[:, end:] = (other[:, end:] + 1) % 8
        expected = decoder.decode(group, tokens, layers)
        assert torch.equal(decoder.decode(group, other, layers), expected)
        assert torch.equal(decoder.decode(group, tokens[:, :end], layers), expected)
    other = tokens.clone()
    other[:, 0] = (other[:, 0] + 1) % 8
    assert not torch.equal(decoder.decode(group, other, 1), decoder.decode(group, tokens, 1))


def test_every_layer_changes_the_picture() -> None:
    torch.manual_seed(0)
    decoder = Decoder(CONFIG).eval()
    torch.nn.init.normal_(decoder.absent)
    group, tokens = torch.tensor([0]), torch.randint(0, 8, (1, 15))
    pictures = [decoder.decode(group, tokens, layers) for layers in (1, 2, 3)]
    assert pictures[0].shape == (1, 128, 128, 3)
    assert pictures[0].dtype == torch.uint8
    assert not torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[1], pictures[2])


def test_a_batch_is_decoded_as_its_faces_are() -> None:
    torch.manual_seed(0)
    decoder = Decoder(CONFIG).eval()
    words, received = torch.randn(3, 15, 4), torch.tensor([1, 2, 3])
    together = decoder(words, received, 32)
    alone = torch.cat([decoder(words[i : i + 1], received[i : i + 1], 32) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_modulation_equals_stylegan2_weights_per_sample() -> None:
    torch.manual_seed(0)
    layer, x, style = ModulatedConv(6, 5, 4), torch.randn(3, 6, 8, 8), torch.randn(3, 4)
    weight = layer.weight[None] * layer.scale(style)[:, None, :, None, None]
    weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-6)
    expected = functional.conv2d(x.view(1, 18, 8, 8), weight.view(15, 6, 3, 3), padding=1, groups=3).view(3, 5, 8, 8)
    expected = functional.leaky_relu(expected + layer.bias[:, None, None], 0.2) * 1.4
    torch.testing.assert_close(layer(x, style), expected, atol=1e-5, rtol=1e-4)


def test_too_few_tokens_are_refused() -> None:
    decoder = Decoder(CONFIG).eval()
    with pytest.raises(ValueError, match="do not make 3 layers"):
        decoder.decode(torch.tensor([0]), torch.zeros(1, 10, dtype=torch.long), 3)


def test_color_is_coarse_and_brightness_is_not() -> None:
    torch.manual_seed(0)
    picture = torch.randn(1, 3, 128, 128)
    soft = _soften_color(picture)
    torch.testing.assert_close(soft.mean(1), picture.mean(1), atol=1e-5, rtol=0)
    color = soft - soft.mean(1, keepdim=True)
    assert float(color.diff(dim=3).abs().mean()) < 0.1
    small = torch.randn(1, 3, 32, 32)
    assert torch.equal(_soften_color(small), small)
