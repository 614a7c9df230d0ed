import torch
from torch.nn import functional

from edge_stscq.codec.identity import IdentityHead, allocate, normalize
from edge_stscq.config.codec import CodecConfig, LayerConfig


def head() -> tuple[IdentityHead, torch.Tensor]:
    config = CodecConfig(
        name="x", groups=1, entries=4, dim=8,
        layers=(
            LayerConfig(name="basic", identity=16, spatial=0, identity_dims=64),
            LayerConfig(name="middle", identity=8, spatial=8, identity_dims=64),
            LayerConfig(name="enhanced", identity=0, spatial=4),
        ),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    spread = torch.linspace(2, 0.2, 128)
    rotation = torch.linalg.qr(torch.randn(128, 128, generator=generator))[0]
    embeddings = (torch.randn(2000, 128, generator=generator) * spread) @ rotation + 0.3
    network = IdentityHead(config)
    network.fit(embeddings, embeddings[:500])
    return network, embeddings


def deviations(network: IdentityHead, embeddings: torch.Tensor) -> torch.Tensor:
    return functional.normalize(normalize(embeddings) - network.centre)


def test_identity_head_reads_back_all_components_exactly() -> None:
    """All components read back exactly how an embedding differs from the centre."""
    network, embeddings = head()
    torch.testing.assert_close(network.centre, normalize(embeddings[:500]).mean(0), atol=1e-4, rtol=0)
    read = network.deviation(network(embeddings[:50]))
    torch.testing.assert_close(read, deviations(network, embeddings[:50]), atol=1e-4, rtol=0)


def test_what_all_faces_share_does_not_make_two_alike() -> None:
    network, embeddings = head()
    read = network.deviation(network(embeddings[:500]))
    shared = functional.normalize(embeddings[:500])
    others = ~torch.eye(500, dtype=torch.bool)
    assert float((shared @ shared.t())[others].mean()) > 0.05
    assert abs(float((read @ read.t())[others].mean())) < 0.01


def test_the_basic_layer_carries_the_strongest_half() -> None:
    network, embeddings = head()
    tokens = network(embeddings[:200])
    basic = network.deviation(tokens[:, :16])
    cosine = functional.cosine_similarity(basic, deviations(network, embeddings[:200]))
    assert float(cosine.mean()) > 0.9
    assert float(tokens[:, :16].var(0).sum()) > 3 * float(tokens[:, 16:].var(0).sum())


def test_allocation_gives_every_token_a_similar_variance() -> None:
    buckets = allocate([float(2.0 ** -(i / 4)) for i in range(32)], 8, 4)
    assert sorted(sum(buckets, [])) == list(range(32))
    assert {len(bucket) for bucket in buckets} == {4}
    loads = [sum(-(i / 4) for i in bucket) for bucket in buckets]
    assert max(loads) - min(loads) < 1.5
