"""Publishers that the settings ask for."""

import ssl

from demo_camera.service.files import read_secret
from demo_camera.service.settings import EventSettings, MqttSettings
from edge_stscq._tls import client_context
from edge_stscq.events.mqtt import MqttPublisher
from edge_stscq.events.notices import Notices
from edge_stscq.events.publisher import Publisher
from edge_stscq.events.webhook import WebhookPublisher


def make_publishers(settings: EventSettings, notices: Notices) -> list[Publisher]:
    """Publishers that are not started yet.

    Raises:
        EdgeError: a secret or a certificate cannot be used.
    """
    made: list[Publisher] = [] if settings.mqtt is None else [_mqtt(settings.mqtt, notices)]
    for number, one in enumerate(settings.webhook, 1):
        made.append(WebhookPublisher(one.url, read_secret(one.secret_file), notices, number))
    return made


def _mqtt(settings: MqttSettings, notices: Notices) -> MqttPublisher:
    tls = None
    if settings.tls:
        tls = client_context(None, None, settings.ca) or ssl.create_default_context()
    return MqttPublisher(
        settings.host, settings.port, settings.prefix, notices, username=settings.username,
        password=None if settings.password_file is None else read_secret(settings.password_file), tls=tls,
    )  # fmt: skip
