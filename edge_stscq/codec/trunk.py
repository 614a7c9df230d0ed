"""The identity trunk: a plain chain of depthwise-separable convolutions that ends in a 128-d face embedding.

The layout is that of OpenCV Zoo's SFace (Apache-2.0), from whose weights both encoders start: the teacher keeps it
whole, the student has fewer channels, biases in place of batch norms and ReLUs in place of PReLUs, as int8 kernels
fuse them.
"""

from torch import Tensor, nn

from edge_stscq.config.codec import EMBEDDING, TRUNK

INPUT = 112
"""Side in pixels of the trunk's input: the centre of the 128-px crop."""

_BLOCKS = ((1, 1), (2, 2), (2, 1), (3, 2), (3, 1), (4, 2), *[(4, 1)] * 5, (5, 2), (5, 1))
"""Index into the channels, and stride, of each depthwise-separable block."""


class IdentityTrunk(nn.Module):
    """Normalised picture [N, 3, 112, 112] -> raw embedding [N, 128].

    Args:
        channels: of the stem and of the blocks at 112, 56, 28, 14 and 7 px; by default the original's.
        plain: convolutions with biases and ReLUs, without the original's batch norms and PReLUs.
    """

    def __init__(self, channels: tuple[int, ...] = TRUNK, plain: bool = False) -> None:
        super().__init__()
        self.plain = plain
        width = channels[0]
        layers = self._conv(3, width, 3, 1, 1)
        for index, stride in _BLOCKS:
            layers += self._conv(width, width, 3, stride, width)
            layers += self._conv(width, channels[index], 1, 1, 1)
            width = channels[index]
        self.features = nn.Sequential(*layers)
        self.features_norm: nn.Module = nn.Identity() if plain else nn.BatchNorm2d(width, eps=2e-5)
        self.project = nn.Linear(width * 7 * 7, EMBEDDING)
        self.embedding_norm: nn.Module = nn.Identity() if plain else nn.BatchNorm1d(EMBEDDING, eps=2e-5)

    def _conv(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=self.plain)
        if self.plain:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")  # no norm would mend a dying signal
            return [convolution, nn.ReLU(inplace=True)]
        return [convolution, nn.BatchNorm2d(outputs, eps=1e-3), nn.PReLU(outputs)]

    def forward(self, image: Tensor) -> Tensor:
        return self.finish(image, 0)

    def taps(self, image: Tensor, ends: tuple[int, ...]) -> list[Tensor]:
        """Feature maps after the given numbers of layers of `features`; nothing beyond the last is computed."""
        taps, x = [], image
        for index in range(ends[-1]):
            x = self.features[index](x)
            if index + 1 in ends:
                taps.append(x)
        return taps

    def finish(self, features: Tensor, layers: int) -> Tensor:
        """Raw embedding [N, 128] from the feature map after the first `layers` layers."""
        for index in range(layers, len(self.features)):
            features = self.features[index](features)
        embedding: Tensor = self.embedding_norm(self.project(self.features_norm(features).flatten(1)))
        return embedding
