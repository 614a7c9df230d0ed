"""Parts as they are: sources of this machine, and loops around one detector and one encoder."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from demo_camera.service.build import real_parts
from demo_camera.service.loading import load_settings
from demo_camera.service.runner import Parts
from demo_camera.service.settings import CameraSettings
from edge_stscq.bundle import open_bundle
from edge_stscq.device.encoder import DeviceEncoder
from edge_stscq.errors import EdgeError
from edge_stscq.privacy import KeyStore
from tests.demo_camera.service.doubles import Said

Write = Callable[[str], Path]
Secret = Callable[[str, str], Path]


def made(file: Path, bundle: Path, said: Said | None = None) -> tuple[Parts, CameraSettings]:
    settings = load_settings(file)
    return real_parts(settings, open_bundle(bundle), said or Said()), settings.camera[0]


def test_source_is_turned_and_cut_as_the_settings_say(write_settings: Write, sums_bundle: Path, tmp_path: Path) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 255
    cv2.imwrite(str(tmp_path / "half.png"), image)
    text = f"[[camera]]\nname = 'a'\nsource = '{tmp_path}/half.png'\nrotate = 90\nregion = '0,50%,100%,50%'\n"
    parts, camera = made(write_settings(text), sums_bundle)
    (picture,) = parts.source(camera).pictures()
    assert picture.image.shape == (30, 40, 3)  # the right half turned downwards, and the lower half of that
    assert picture.image.min() == 255


def test_loops_share_detector_and_encoder_and_differ_in_the_rest(write_settings: Write, sums_bundle: Path) -> None:
    text = "[[camera]]\nname = '{}'\nsource = '0'\n{}\n"
    file = write_settings(text.format("a", "layers = 1\nbest_after = 3") + text.format("b", "limits = {sharpness = 9}"))
    settings = load_settings(file)
    parts = real_parts(settings, open_bundle(sums_bundle), Said())
    first, second = (parts.loop(camera) for camera in settings.camera)
    assert first.detector is second.detector  # type: ignore[attr-defined]
    assert first.encoder is second.encoder  # type: ignore[attr-defined]
    assert (first.layers, second.layers, first.rule.best_after) == (1, None, 3)  # type: ignore[attr-defined]
    assert second.gate.limits.sharpness == 9  # type: ignore[attr-defined]
    assert first.counters is not second.counters


PROTECTED = "[protected]\nsecret = 'file:{secret}'\nkeys = '{keys}'\n"


def test_loops_protect_under_the_name_of_their_camera(
    write_settings: Write, secret: Secret, sums_bundle: Path, tmp_path: Path
) -> None:
    word, keys = "s" * 64, tmp_path / "site.keys"
    text = "".join(f"[[camera]]\nname = '{name}'\nsource = '0'\n" for name in ("door", "gate"))
    file = write_settings(PROTECTED.format(secret=secret("matcher.secret", word), keys=keys) + text)
    settings = load_settings(file)
    for again in range(2):  # the second time the key store is there
        parts = real_parts(settings, open_bundle(sums_bundle), Said())
        for camera in settings.camera:
            unit = np.eye(128, dtype=np.float32)[again]
            assert len(parts.loop(camera).protector.protect(unit)) == 64  # type: ignore[attr-defined]
    records = [record.rpartition("-")[0] for record in list(KeyStore(keys, word.encode()).keys())]
    assert records == ["door", "gate", "door", "gate"]


@pytest.mark.parametrize(("word", "mode", "line"), [
    ("short", 0o600, "holds no secret of 32 to 4096 characters"),
    ("s" * 64, 0o644, "others can read or write the secret file"),
    ("t" * 64, 0o600, "hangs on another secret"),
])  # fmt: skip
def test_templates_without_their_secret_are_refused(
    write_settings: Write, secret: Secret, sums_bundle: Path, tmp_path: Path, word: str, mode: int, line: str
) -> None:
    KeyStore.create(tmp_path / "site.keys", b"s" * 64)
    file = secret("matcher.secret", word)
    file.chmod(mode)
    text = PROTECTED.format(secret=file, keys=tmp_path / "site.keys") + "[[camera]]\nname = 'a'\nsource = '0'\n"
    with pytest.raises(EdgeError, match=line):
        made(write_settings(text), sums_bundle)


def test_layers_that_the_model_does_not_have_are_refused(write_settings: Write, sums_bundle: Path) -> None:
    parts, camera = made(write_settings("[[camera]]\nname = 'a'\nsource = '0'\nlayers = 4\n"), sums_bundle)
    with pytest.raises(EdgeError, match="layers"):
        parts.loop(camera)


def test_self_test_says_the_first_wrong_token(
    write_settings: Write, sums_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, _ = made(write_settings("[[camera]]\nname = 'a'\nsource = '0'\n"), sums_bundle)
    assert parts.self_test() is None
    right = DeviceEncoder.run
    monkeypatch.setattr(DeviceEncoder, "run", lambda self, image: (right(self, image)[0], right(self, image)[1] ^ 1))
    assert "tokens[0, 0]" in str(parts.self_test())


def test_file_that_is_passed_over_is_told_with_its_camera(
    write_settings: Write, sums_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "a.jpg").write_bytes(b"\xff\xd8\xff no more")
    cv2.imwrite(str(tmp_path / "mixed" / "b.png"), np.zeros((40, 60, 3), np.uint8))
    said = Said()
    parts, camera = made(write_settings(f"[[camera]]\nname = 'a'\nsource = '{tmp_path}/mixed'\n"), sums_bundle, said)
    assert len(list(parts.source(camera).pictures())) == 1
    assert [fields["place"] for fields in said.of("note")] == ["camera a"]


ASK = b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'


@contextmanager
def asked() -> Iterator[tuple[int, list[bytes]]]:
    """A port that keeps the head of each request and asks for a password."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(4096))
                    connection.sendall(ASK)

        threading.Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)


def test_password_of_a_file_reaches_the_camera_and_no_message(
    write_settings: Write, secret: Secret, sums_bundle: Path
) -> None:
    password = secret("password", "p@ss/w:rd")
    with asked() as (port, heard):
        source = f"http://viewer@127.0.0.1:{port}/video"
        file = write_settings(f"[[camera]]\nname = 'a'\nsource = '{source}'\npassword_file = '{password}'\n")
        parts, camera = made(file, sums_bundle)
        opened = parts.source(camera)
        with pytest.raises(EdgeError) as caught:
            next(opened.pictures())
        opened.close()
    assert b"Authorization: Basic dmlld2VyOnBAc3MvdzpyZA==" in heard[-1]
    assert "p@ss" not in str(caught.value)
    assert "viewer:***@" in str(caught.value)


def test_password_needs_an_address_with_a_user(write_settings: Write, secret: Secret) -> None:
    file = write_settings(f"[[camera]]\nname = 'a'\nsource = '0'\npassword_file = '{secret('password', 'x')}'\n")
    with pytest.raises(EdgeError, match="rtsp://USER@HOST/PATH"):
        load_settings(file)
