"""A server on a tiny model, and a matcher that follows it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.bundle.model_folder import load_frame_codec
from edge_stscq.matcher.app import create_app
from edge_stscq.matcher.template_source import TemplateSource
from edge_stscq.privacy import KeyRing, KeyStore, TemplateMatcher, scheme_named
from edge_stscq.server.auth.tokens import TokenStore
from tests.matcher.servers import (
    MATCHER_SCOPES,
    FaceServer,
    MatcherProcess,
    listening,
    made_up_thresholds,
    make_token,
    wait_until,
)

Embeddings = NDArray[np.float32]
SECRET = b"s" * 32


@pytest.fixture
def server(tiny_model: Path, tmp_path: Path) -> FaceServer:
    folder = tmp_path / "server"
    folder.mkdir()
    return FaceServer(tiny_model, folder, make_token(folder / "tokens.db", *MATCHER_SCOPES))


@pytest.fixture
def model_id(tiny_model: Path) -> bytes:
    return load_frame_codec(tiny_model).model_id


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore.create(tmp_path / "matcher.keys", SECRET)


@pytest.fixture
def matcher(keys: KeyStore) -> TemplateMatcher:
    return TemplateMatcher(scheme_named("rotated"), KeyRing([keys]))


@pytest.fixture
def source(server: FaceServer) -> Iterator[TemplateSource]:
    """A connection to the server, which runs."""
    with server.running() as url, TemplateSource(url, token=server.token) as opened:
        yield opened


@pytest.fixture
def embeddings() -> Embeddings:
    """Unit vectors float32 [8, 128]."""
    drawn = np.random.default_rng(3).standard_normal((8, 128))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def process(
    source: TemplateSource, matcher: TemplateMatcher, model_id: bytes, tmp_path: Path
) -> Iterator[MatcherProcess]:
    tokens = tmp_path / "matcher-tokens.db"
    app = create_app(matcher, source, TokenStore(tokens, create=True), thresholds=made_up_thresholds(model_id))
    with listening(app) as url:
        wait_until(lambda: app.state.follower.complete)
        yield MatcherProcess(app, url, tokens)
