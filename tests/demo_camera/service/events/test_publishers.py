"""Publishers as the settings ask for them."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from demo_camera.service.events.publishers import make_publishers
from demo_camera.service.loading import load_settings
from edge_stscq.events.notices import Notices
from tests.demo_camera.service.doubles import Said, wait_for
from tests.events.broker import Broker
from tests.support.installed import need_program

Write = Callable[[str], Path]
Secret = Callable[[str, str], Path]
DOOR = '[[camera]]\nname = "door"\nsource = "0"\n'


def test_each_has_a_name_of_its_own(write_settings: Write, secret: Secret) -> None:
    hook = f"[[events.webhook]]\nurl = 'https://one/a'\nsecret_file = '{secret('s', 'x')}'\n"
    file = write_settings(f"[events.mqtt]\nhost = 'broker'\n{hook}{hook.replace('/a', '/b')}{DOOR}")
    made = make_publishers(load_settings(file).events, Notices(Said()))
    assert [one.name for one in made] == ["mqtt broker:1883", "webhook 1 one", "webhook 2 one"]
    assert make_publishers(load_settings(write_settings(DOOR)).events, Notices(Said())) == []


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Certificate of 127.0.0.1, which signs itself, and its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    openssl = need_program("openssl", "apt-get install openssl")
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=broker", "-days", "2"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([openssl, "req", "-x509", *made, *names], check=True, capture_output=True)
    return cert, key


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho drops the socket that TLS refused
def test_broker_with_tls_is_believed_by_its_authority_alone(
    write_settings: Write, secret: Secret, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    broker = Broker(tmp_path, password="hunter2", tls=certificate).start()
    try:
        text = (
            f"[events.mqtt]\nhost = '127.0.0.1'\nport = {broker.port}\ntls = true\nusername = 'door'\n"
            f"password_file = '{secret('password', 'hunter2')}'\n"
        )
        for lines, believed in (f"ca = '{certificate[0]}'\n", True), ("", False):
            said = Said()
            (publisher,) = make_publishers(load_settings(write_settings(text + lines + DOOR)).events, Notices(said))
            publisher.start()
            publisher.publish({"n": 1})
            wait_for(lambda: publisher.counts.sent if believed else said.of("trouble"))  # noqa: B023
            publisher.close()
            assert (publisher.counts.sent, publisher.counts.lost) == (int(believed), int(not believed))
    finally:
        broker.stop()
