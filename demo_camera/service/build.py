"""Parts of the service as they are: this machine's sources, detector, gate and encoder."""

import secrets
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import cv2

from demo_camera.best_shot import SendRule
from demo_camera.loop import CaptureLoop
from demo_camera.service.files import read_secret
from demo_camera.service.parts import Say
from demo_camera.service.runner import Parts
from demo_camera.service.settings import CameraSettings, ProtectedSettings, Settings
from demo_camera.sources import Region, Source, SourceOptions, open_source
from edge_stscq._reporter import Silence
from edge_stscq._secrets import read_secret as fetch_secret
from edge_stscq.bundle import Bundle
from edge_stscq.bundle.matcher import Matcher
from edge_stscq.bundle.selftest import selftest
from edge_stscq.device import load_encoder
from edge_stscq.device.crop import check
from edge_stscq.device.detect import Detector
from edge_stscq.device.quality import QualityGate
from edge_stscq.privacy import KeyStore, Protector, scheme_named

_FIRST_TRACK = 2**31
"""The first visit of a run has a random number below it: earlier runs may have put visits into the same spool."""


def real_parts(settings: Settings, bundle: Bundle, say: Say) -> Parts:
    """Parts around one detector and one encoder, which all cameras share.

    Args:
        say: gets a `note` of each file that a source passes over.

    Raises:
        EdgeError: the bundle's artifact cannot be loaded, its crops are others, or a camera asks for more layers than
            the model has; templates are asked for, and their secret or key store cannot be used.
    """
    check(bundle.manifest.crop)
    cv2.setNumThreads(settings.threads)
    detector, encoder = Detector(), load_encoder(bundle, settings.threads, verify=False)
    matcher = Matcher.of(bundle) if bundle.manifest.matches else None
    keys = None if settings.protected is None else _key_store(settings.protected)

    def loop(camera: CameraSettings) -> CaptureLoop:
        layers = None if camera.layers is None else bundle.config.check_layers(camera.layers)
        return CaptureLoop(
            detector, encoder, bundle.frames, QualityGate(detector, camera.limits), matcher, layers=layers, base=True,
            rule=SendRule(camera.best_after, camera.margin), most_faces=camera.faces, every=camera.every,
            numbers=count(secrets.randbelow(_FIRST_TRACK)),
            protector=None if keys is None else Protector(scheme_named("rotated"), keys, camera.name),
        )  # fmt: skip

    def self_test() -> str | None:
        result = selftest(bundle, encoder)
        return None if result.passed else f"this device computes other tokens than it must: {result.first}"

    return Parts(partial(_source, say), loop, self_test)


def _key_store(protected: ProtectedSettings) -> KeyStore:
    """The key store, made if it is not there."""
    secret = fetch_secret(protected.secret)
    return KeyStore(protected.keys, secret) if protected.keys.exists() else KeyStore.create(protected.keys, secret)


class _Passed(Silence):
    """Reporter of files that a source passes over."""

    def __init__(self, say: Say, camera: str) -> None:
        self._say, self._camera = say, camera

    def say(self, line: str) -> None:
        self._say("note", place=f"camera {self._camera}", text=line)


def _source(say: Say, camera: CameraSettings) -> Source:
    """Source of a camera; whoever reads it opens it again."""
    word = camera.source.get_secret_value()
    if camera.password_file is not None:
        word = _with_password(word, camera.password_file)
    options = SourceOptions(
        rotate=camera.rotate, region=None if camera.region is None else Region.parse(camera.region),
        max_rate=camera.max_rate, follow=camera.follow, recursive=camera.recursive, timeout=camera.timeout,
        reconnect=False,
    )  # fmt: skip
    return open_source(word, options, _Passed(say, camera.name))


def _with_password(address: str, file: Path) -> str:
    """An address with the password of its user."""
    parts = urlsplit(address)
    password = quote(read_secret(file).get_secret_value(), safe="")
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{password}@{host}"))
