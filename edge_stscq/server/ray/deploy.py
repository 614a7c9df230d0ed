"""`edge-stscq serve --engine ray`: the same routes, on as many replicas and machines as a Ray cluster has.

Without an address a Ray instance of its own is started on this machine, and ends with the server. With one, the server
spreads over that cluster: model, tokens and certificates must then lie at the same paths on each of its machines, and
the store must be a PostgreSQL that all of them reach. Each machine that holds a replica listens on the port.

Ray is asked for three things: `--replicas MIN:MAX` decoders, each kept at one batch under way and one that fills;
`--ingress-replicas` of the routes; and a proxy in front, with the rules of `ray_proxy`.
"""

import contextlib
import logging
import os
import re
import secrets
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_stscq.codec.execution_profile import profile_for
from edge_stscq.errors import EdgeError, require
from edge_stscq.server.announcement import Announce, Announcement, server_url
from edge_stscq.server.app import open_store
from edge_stscq.server.decoding.catalog import ModelCatalog
from edge_stscq.server.persons.publishers import make_publishers
from edge_stscq.server.ray.proxy import CALLBACK, MAX_BODY_BYTES
from edge_stscq.server.settings import ServerSettings

APPLICATION = "edge-stscq"
INGRESS_REQUESTS = 1024
"""Requests that one ingress works on; as many more may wait for it in the proxy, and further ones are answered 503."""
LOGS = {"log_level": "WARNING", "enable_access_log": False}
"""Replicas write to Ray's own log folder, and no addresses: the audit log has those that count."""
OBJECT_STORE_BYTES = 128 << 20
"""Shared memory of a Ray instance of our own; faces are too small to pass through it."""


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Options of a server that is spread.

    Attributes:
        address: of a running cluster, e.g. `10.0.0.1:6379` or `auto`; None starts an instance on this machine.
        ingress_replicas: processes that answer requests.
        least, most: decoders at rest and under load.
        gpus_per_replica: GPUs of each decoder; a fraction lets several share one.

    Raises:
        EdgeError: a number is out of range.
    """

    address: str | None = None
    ingress_replicas: int = 1
    least: int = 1
    most: int = 1
    gpus_per_replica: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise EdgeError(f"--replicas {self.least}:{self.most} is no range; give 1 <= MIN <= MAX")
        if self.ingress_replicas < 1:
            raise EdgeError("--ingress-replicas must be 1 or more")
        share = self.gpus_per_replica
        if share < 0 or (share > 1 and not share.is_integer()):
            raise EdgeError(f"--gpus-per-replica {share:g} cannot be given; use a fraction up to 1 or a whole number")


def parse_replicas(text: str) -> tuple[int, int]:
    """`"2"` is (2, 2), `"1:8"` is (1, 8).

    Raises:
        EdgeError: it is neither.
    """
    match = re.fullmatch(r"([0-9]{1,6})(?::([0-9]{1,6}))?", text)
    if match is None:
        raise EdgeError(f"--replicas {text!r} is not understood; give a number or MIN:MAX, e.g. 1:8")
    return int(match[1]), int(match[2] or match[1])


def check(settings: ServerSettings, options: RayOptions, tls: dict[str, Any]) -> None:
    """Refuse what Ray Serve cannot keep.

    Raises:
        EdgeError: mutual TLS, a store that other machines cannot reach, bodies larger than the proxy reads, or a
            device and GPUs that do not go together, or as `make_publishers`.
    """
    make_publishers(settings)
    if "ssl_ca_certs" in tls:
        raise EdgeError(
            "Ray's proxy does not insist on a client's certificate; leave out --tls-client-ca and let a balancer in "
            "front ask for it, or use --engine process"
        )
    if options.address is not None and not str(settings.store).startswith("postgresql"):
        raise EdgeError(
            f"machines of a cluster cannot share the SQLite file {settings.store}; give --store postgresql://..., or "
            "leave out --ray-address to stay on this machine"
        )
    if settings.max_body_bytes > MAX_BODY_BYTES:
        raise EdgeError(
            f"Ray's proxy reads {MAX_BODY_BYTES} bytes of a body; set max_body_bytes to no more, "
            "or use --engine process"
        )
    if settings.device == "cuda" and options.gpus_per_replica == 0:
        raise EdgeError("without a GPU to itself Ray hides it from a decoder; give --gpus-per-replica, e.g. 1 or 0.5")
    if settings.device == "cpu" and options.gpus_per_replica > 0:
        raise EdgeError("--gpus-per-replica goes with --accelerator cuda")


@contextlib.contextmanager
def running(
    settings: ServerSettings, options: RayOptions, audit: Path, tls: dict[str, Any] | None = None
) -> Iterator[None]:
    """The server, running on `settings.host` and `settings.port` until the block ends.

    Args:
        audit: audit log; each ingress adds its number to the name.
        tls: what `server_arguments` made of the certificate.

    Raises:
        EdgeError: see `check`; also if Ray is absent, its cluster cannot be used, or a replica cannot start.
    """
    tls = tls or {}
    check(settings, options, tls)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray, serve = require("ray", "ray"), require("ray.serve", "ray")
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    _connect(ray, options)
    started = False
    try:
        if serve.status().proxies:
            raise EdgeError("Ray Serve runs on this cluster already; end it there with: serve shutdown")
        started = True
        try:
            serve.start(
                proxy_location="EveryNode",
                http_options={
                    "host": settings.host, "port": settings.port,
                    "ssl_certfile": str(tls["ssl_certfile"]) if tls else None,
                    "ssl_keyfile": str(tls["ssl_keyfile"]) if tls else None,
                },
                logging_config=LOGS,
            )  # fmt: skip
            decoders = decoder_deployment(settings, options).bind(settings)
            application = ingress_deployment(options).bind(settings, decoders, audit.absolute())
            serve.run(application, name=APPLICATION)
        except (RuntimeError, TimeoutError, ray.exceptions.RayError) as error:
            raise EdgeError(f"Ray Serve could not start: {_reason(serve, error)}") from None
        yield
    finally:
        if started:
            serve.shutdown()
        ray.shutdown()


def decoder_deployment(settings: ServerSettings, options: RayOptions) -> Any:
    """The deployment that decodes: between `least` and `most` replicas, aiming at one full batch under way in each."""
    from edge_stscq.server.ray.replicas import DecoderReplica

    max_batch = profile_for(settings.device, settings.max_batch).max_batch
    return require("ray.serve", "ray").deployment(
        DecoderReplica,
        name="decoder",
        ray_actor_options={"num_cpus": 1, "num_gpus": options.gpus_per_replica},
        max_ongoing_requests=2 * max_batch,
        max_queued_requests=settings.queue_size,
        autoscaling_config={
            "min_replicas": options.least, "max_replicas": options.most, "target_ongoing_requests": max_batch,
        },
        max_constructor_retry_count=1,
        logging_config=LOGS,
    )  # fmt: skip


def ingress_deployment(options: RayOptions) -> Any:
    """The deployment that answers requests, by the routes of `create_app`."""
    serve = require("ray.serve", "ray")
    from edge_stscq.server.ray.replicas import Ingress

    return serve.deployment(
        serve.ingress()(Ingress),
        name="ingress",
        num_replicas=options.ingress_replicas,
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=INGRESS_REQUESTS,
        max_queued_requests=INGRESS_REQUESTS,
        max_constructor_retry_count=1,
        logging_config=LOGS,
    )


def run(settings: ServerSettings, options: RayOptions, audit: Path, tls: dict[str, Any], announce: Announce) -> None:
    """Serve until Ctrl-C or SIGTERM; `announce` is told once that the server is up.

    Raises:
        EdgeError: see `running`; also if the model or the store cannot be used.
    """
    check(settings, options, tls)
    models = ModelCatalog(settings.model).names
    with contextlib.closing(open_store(settings)) as store:
        kept = store.name
    url = server_url(settings, settings.port, bool(tls))
    with running(settings, options, audit, tls):
        announce(Announcement(url, models, settings.device, kept, (options.least, options.most)))
        _wait_for_the_end()


def _wait_for_the_end() -> None:
    end = threading.Event()
    before = {number: signal.signal(number, lambda *_: end.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        end.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _connect(ray: Any, options: RayOptions) -> None:
    """Join the cluster, or start an instance that only processes with its token may use."""
    for_ray = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": CALLBACK, "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30"}
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if options.address is not None:
            ray.init(address=options.address, runtime_env={"env_vars": for_ray}, **quiet)
            return
        os.environ.update(for_ray, RAY_worker_niceness="0")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        ray.init(
            address="local", num_cpus=max(options.ingress_replicas + options.most, os.cpu_count() or 1),
            include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet,
        )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = options.address or "this machine"
        raise EdgeError(f"cannot use Ray at {where}: {_line(error)}; see --ray-address") from None


def _reason(serve: Any, error: Exception) -> str:
    """Message of the replicas that could not start, or of Ray."""
    found = serve.status().applications.get(APPLICATION)
    messages = [each.message for each in found.deployments.values() if each.message] if found else []
    return _line("; ".join(messages) or error)


def _line(message: object) -> str:
    """The last of a message that may be a traceback, in one line."""
    lines = [line.strip() for line in str(message).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason was given"
