"""SFace with its batch norms fused is the same function."""

import torch

from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.recognizers.sface import fuse_batchnorms


def test_fuse_batchnorms_changes_nothing() -> None:
    torch.manual_seed(0)
    trunk = IdentityTrunk((8,) * 6)
    trunk(torch.randn(8, 3, 112, 112))  # moves the running statistics away from their start
    trunk.eval()
    x = torch.randn(2, 3, 112, 112)
    torch.testing.assert_close(fuse_batchnorms(trunk)(x), trunk(x), atol=1e-4, rtol=1e-3)
