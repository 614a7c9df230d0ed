"""Publishers of a server's events that the settings ask for: a webhook, an MQTT broker."""

import logging
import ssl
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import SecretStr

from edge_stscq._local_servers import is_loopback
from edge_stscq._secrets import read_private, read_secret
from edge_stscq._tls import client_context
from edge_stscq.errors import EdgeError, require
from edge_stscq.events.notices import Notices
from edge_stscq.events.publisher import Publisher
from edge_stscq.events.webhook import WebhookPublisher
from edge_stscq.server.settings import ServerSettings

log = logging.getLogger(__name__)

TOPIC = "visits"
_PREFIX = "edge-stscq"
_WEBHOOK = "give http://HOST/PATH or https://HOST/PATH"
_BROKER = "give mqtt://HOST or mqtts://HOST, with a port, USER@ and /PREFIX where they are needed"


def make_publishers(settings: ServerSettings) -> list[Publisher]:
    """Publishers that are not started yet.

    Raises:
        EdgeError: an address, a secret or a certificate cannot be used, or no faces are grouped.
        MissingExtraError: paho-mqtt is not installed.
    """
    asked = {"--webhook": settings.webhook, "--mqtt": settings.mqtt}
    needs = {
        "--webhook-secret": (settings.webhook_secret, "--webhook"),
        "--mqtt-password": (settings.mqtt_password, "--mqtt"),
        "--mqtt-ca": (settings.mqtt_ca, "--mqtt"),
    }
    for option, (file, of) in needs.items():
        if file is not None and asked[of] is None:
            raise EdgeError(f"{option} goes with {of}; give that, too, or leave it out")
    for option, address in asked.items():
        if address is not None and not (settings.persons or settings.watch_list):
            raise EdgeError(f"{option} tells of visits, and this server groups no faces; add --persons or --watch-list")
    notices, made = Notices(_say), list[Publisher]()
    if settings.webhook is not None:
        made.append(_webhook(settings.webhook, settings.webhook_secret, notices))
    if settings.mqtt is not None:
        made.append(_mqtt(settings.mqtt, settings.mqtt_password, settings.mqtt_ca, notices))
    return made


def _webhook(url: str, secret: Path | None, notices: Notices) -> Publisher:
    parts = _split(url, "--webhook", ("http", "https"), _WEBHOOK)
    if parts.username is not None or parts.fragment:
        raise EdgeError(f"--webhook takes no user, password or fragment in its address; {_WEBHOOK}")
    if secret is None:
        raise EdgeError("--webhook signs what it sends; give --webhook-secret FILE, made with: openssl rand -hex 32")
    _warn_if_clear("--webhook", parts, "https")
    return WebhookPublisher(url, SecretStr(read_secret(f"file:{secret}").decode()), notices)


def _mqtt(url: str, password: Path | None, ca: Path | None, notices: Notices) -> Publisher:
    parts = _split(url, "--mqtt", ("mqtt", "mqtts"), _BROKER)
    if parts.password is not None:
        raise EdgeError("--mqtt takes no password in its address, where every process could read it; "
                        "give --mqtt-password FILE")  # fmt: skip
    prefix, host, tls = unquote(parts.path).strip("/") or _PREFIX, str(parts.hostname), parts.scheme == "mqtts"
    if parts.query or parts.fragment or "" in prefix.split("/") or any(sign in prefix for sign in "+#\0"):
        raise EdgeError(f"--mqtt has no prefix of topics behind its host; {_BROKER}")
    if password is not None and parts.username is None:
        raise EdgeError("--mqtt-password needs a user; give --mqtt mqtts://USER@HOST")
    if password is not None and not tls and not is_loopback(host):
        raise EdgeError("the broker's password would travel in the clear; give --mqtt mqtts://...")
    if ca is not None and not tls:
        raise EdgeError("--mqtt-ca is of no use without TLS; give --mqtt mqtts://...")
    _warn_if_clear("--mqtt", parts, "mqtts")
    require("paho.mqtt", "mqtt")
    from edge_stscq.events.mqtt import MqttPublisher

    return MqttPublisher(
        host, parts.port, prefix, notices, username=None if parts.username is None else unquote(parts.username),
        password=None if password is None else _password(password),
        tls=(client_context(None, None, ca) or ssl.create_default_context()) if tls else None, topic=TOPIC,
    )  # fmt: skip


def _split(url: str, option: str, schemes: tuple[str, ...], remedy: str) -> SplitResult:
    """Parts of an address, which is not shown: a password may be in it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in schemes and bool(parts.hostname) and url.isprintable() and " " not in url
        usable = usable and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise EdgeError(f"{option} is no address that can be used; {remedy}")
    return parts


def _warn_if_clear(option: str, parts: SplitResult, scheme: str) -> None:
    host = str(parts.hostname)
    if parts.scheme != scheme and not is_loopback(host):
        log.warning("%s: names of people reach %s in the clear; give %s://", option, host, scheme)


def _password(path: Path) -> SecretStr:
    try:
        text = read_private(path, "password").decode().strip()
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise EdgeError(f"the password file {path} is empty or no text; put the password there, alone")
    return SecretStr(text)


def _say(event: str, *, place: str, text: str) -> None:
    log.log(logging.WARNING if event == "trouble" else logging.INFO, "%s: %s", place, text)
