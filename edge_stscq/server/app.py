"""The web application, put together from its parts.

Nothing is global, so an application may be mounted, tested or replicated freely.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI

from edge_stscq import __version__
from edge_stscq.server.api import devices, faces, frames, live, match, meta, page, templates
from edge_stscq.server.api.people import persons, visit_events, visits
from edge_stscq.server.auth.audit_log import AuditMiddleware, AuditTrail
from edge_stscq.server.auth.guard import Guard, open_tokens
from edge_stscq.server.decoding.backend import DecoderBackend
from edge_stscq.server.decoding.cache import SingleFlightCache
from edge_stscq.server.decoding.catalog import ModelCatalog
from edge_stscq.server.decoding.forgetting import forgetting
from edge_stscq.server.decoding.local import in_process_backend
from edge_stscq.server.decoding.resolver import RequestResolver
from edge_stscq.server.errors import install_exception_handlers
from edge_stscq.server.front.address import TrustedProxyMiddleware
from edge_stscq.server.front.checks import RequestChecks
from edge_stscq.server.ingest import REQUESTS_PER_COMMIT, Answer, Ingest, Upload
from edge_stscq.server.maintenance.retention import Retention, retaining
from edge_stscq.server.matching.indexes import following, open_indexes
from edge_stscq.server.metrics import Metrics
from edge_stscq.server.middleware import Admission, LoadSheddingMiddleware, RequestMetricsMiddleware
from edge_stscq.server.persons.people import People, grouping
from edge_stscq.server.persons.publishers import make_publishers
from edge_stscq.server.pictures.encoder import PictureEncoder
from edge_stscq.server.readiness import Readiness
from edge_stscq.server.security_headers import SecurityHeadersMiddleware
from edge_stscq.server.settings import ServerSettings
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.device_stats import DeviceStatsCache
from edge_stscq.server.storage.face_store import FaceStore
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.server.write_queue import GroupCommitQueue


def open_store(settings: ServerSettings) -> SqlFaceStore:
    """The store of these settings, through its seal if it is sealed.

    Raises:
        EdgeError: the store, its secret or its key file cannot be used.
    """
    if settings.seal is None and settings.seal_keys is None:
        return SqlFaceStore(settings.store)
    from edge_stscq.server.sealing.face_seal import open_seal

    return SqlFaceStore(settings.store, open_seal(settings.seal, settings.seal_keys, settings.store))


def create_app(
    settings: ServerSettings, backend: DecoderBackend | None = None, store: FaceStore | None = None,
    confinement: Callable[[], str] = lambda: "none", pictures: PictureEncoder | None = None,
) -> FastAPI:  # fmt: skip
    """Build the application.

    Args:
        backend: decodes the faces; None decodes in this process.
        store: keeps the faces, and is closed with the application; None opens `settings.store`.
        pictures: codes uploaded pictures, and is closed with the application; None takes none.
        confinement: says what the decoder has given up, for `/ready`.

    Raises:
        EdgeError: a model folder, the store or the tokens cannot be used, or a public host has no valid token.

    Example:
        >>> app = create_app(load_settings(model="models/face64", store="faces.db"))
        >>> uvicorn.run(app, port=8377)
    """
    catalog, tokens = ModelCatalog(settings.model), open_tokens(settings)
    store = store or open_store(settings)
    backend = backend or in_process_backend(settings)
    guard, resolver, admission = Guard(settings, tokens), RequestResolver(catalog, store), Admission(backend)
    feed, connections, device_stats = (
        ChangeFeed(store),
        live.ConnectionLimit(settings.live_clients),
        DeviceStatsCache(store),
    )
    publishers = make_publishers(settings)
    indexes, metrics = open_indexes(catalog, store, settings), Metrics(device_stats, publishers)
    cache = SingleFlightCache(settings.cache_bytes)
    trail, retention = AuditTrail(), Retention.parse(settings.retain)
    readiness = Readiness(store, backend, trail, confinement)
    metrics.gauge("decode_queue_faces", "faces that wait for the decoder", lambda: backend.load().queued)
    metrics.gauge("live_clients", "clients that follow the feed", lambda: connections.active)
    metrics.gauge("index_faces", "faces that can be found by example", lambda: len(indexes))
    people = People.of(store, catalog, settings, publishers)
    queue: GroupCommitQueue[Upload, Answer] = GroupCommitQueue(
        Ingest(catalog, store, settings.max_frames, people.let_pass if settings.watch_list else None).accept,
        REQUESTS_PER_COMMIT,
    )  # fmt: skip
    metrics.gauge("watch_list_passed", "faces of unknown people that a watch list let pass", lambda: people.passed)
    backend.on_batch = metrics.record_batch

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with (
                backend, feed, queue, following(indexes, feed, settings.match_faces), forgetting(cache, feed),
                retaining(store, retention), grouping(people, feed, publishers),
            ):  # fmt: skip
                yield
        finally:
            store.close()
            for part in (guard, trail, readiness):
                part.close()
            if pictures is not None:
                pictures.close()

    app = FastAPI(title="edge-stscq", version=__version__, lifespan=lifespan, openapi_url=None)
    app.add_middleware(LoadSheddingMiddleware, admission=admission, route=faces.IMAGE_PATH)
    app.add_middleware(RequestChecks)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(AuditMiddleware, trail=trail)
    app.add_middleware(RequestMetricsMiddleware, metrics=metrics)
    app.add_middleware(TrustedProxyMiddleware, proxies=settings.trusted_proxies)
    app.state.catalog, app.state.store, app.state.backend, app.state.guard = catalog, store, backend, guard
    app.state.pictures, app.state.people = pictures, people
    for router in (
        frames.routes(guard, queue, metrics),
        faces.list_routes(guard, store),
        meta.model_routes(guard, catalog, settings.device, people.groups, pictures is not None),
        faces.image_routes(guard, resolver, backend, cache, admission),
        match.routes(guard, resolver, catalog, store, indexes, feed, pictures, settings.max_picture_bytes),
        templates.routes(guard, store),
        devices.routes(guard, device_stats),
        visits.routes(guard, people),
        persons.routes(guard, people, feed, pictures, settings.max_picture_bytes),
        faces.erase_routes(guard, resolver, store, feed),
        live.routes(guard, feed, connections, trail),
        visit_events.routes(guard, people, connections, trail),
        meta.metrics_routes(guard, metrics),
        meta.probe_routes(readiness),
    ):
        app.include_router(router)
    page.add_page(app)
    meta.add_openapi(app, guard)
    install_exception_handlers(app)
    return app
