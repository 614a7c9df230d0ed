"""Messages to an MQTT broker, by paho-mqtt.

A topic below the prefix has the messages, with QoS 1; `<prefix>/available` says "online" or "offline",
retained, and the broker says "offline" for a program that went without a word.
"""

import json
import ssl
import time

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import SecretStr

from edge_stscq.events.notices import Notices
from edge_stscq.events.publisher import Counts, Message

MOST_WAITING = 1000
"""Messages that wait for the broker; further ones are lost."""
_KEEPALIVE = 30
"""Seconds after which a broker notices that the service is gone, give or take half."""
_LAST_SECONDS = 2.0
"""Seconds that what waits has to leave when everything ends."""


class MqttPublisher:
    """Publisher to one broker; it connects in the background, again and again.

    Args:
        port: 1883, or 8883 with TLS, if None.
        tls: context of the connection, none if None.
        prefix: of the topics.
        topic: of the messages, below the prefix.
        most_waiting: see `MOST_WAITING`.
        longest_pause: seconds between two tries to connect, at most.
    """

    def __init__(
        self, host: str, port: int | None, prefix: str, notices: Notices, *, username: str | None = None,
        password: SecretStr | None = None, tls: ssl.SSLContext | None = None, most_waiting: int = MOST_WAITING,
        longest_pause: int = 60, topic: str = "tracked_object_update",
    ) -> None:  # fmt: skip
        self.counts, self._taken = Counts(), 0
        self._own: set[int] = set()
        """Numbers of messages about availability."""
        self._host, self._port = host, port or (1883 if tls is None else 8883)
        self.name = f"mqtt {host}:{self._port}"
        self._topic, self._available = f"{prefix}/{topic}", f"{prefix}/available"
        self._notices = notices
        client = Client(CallbackAPIVersion.VERSION2)
        client.max_queued_messages_set(most_waiting)
        client.reconnect_delay_set(1, longest_pause)
        client.will_set(self._available, "offline", qos=1, retain=True)
        if username is not None:
            client.username_pw_set(username, None if password is None else password.get_secret_value())
        if tls is not None:
            client.tls_set_context(tls)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_connect_fail, client.on_publish = self._on_connect_fail, self._on_publish
        self._client = client

    def start(self) -> None:
        self._client.connect_async(self._host, self._port, keepalive=_KEEPALIVE)
        self._client.loop_start()

    def publish(self, message: Message) -> None:
        info = self._client.publish(self._topic, json.dumps(message), qos=1)
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            self.counts.lost += 1
        else:
            self._taken += 1

    def close(self) -> None:
        ends = time.monotonic() + _LAST_SECONDS
        while self._client.is_connected() and self.counts.sent < self._taken and time.monotonic() < ends:
            time.sleep(0.01)
        if self._client.is_connected():
            told = self._client.publish(self._available, "offline", qos=1, retain=True)
            self._own.add(told.mid)
            if told.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                told.wait_for_publish(_LAST_SECONDS)
        self._client.disconnect()
        self._client.loop_stop()
        self.counts.lost += self._taken - self.counts.sent

    def _on_connect(
        self, client: Client, data: object, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._notices.begin(self.name, f"the broker refused the connection: {reason}; check username and password")
            return
        self._notices.end(self.name)
        self._own.add(client.publish(self._available, "online", qos=0, retain=True).mid)  # is not queued behind others

    def _on_connect_fail(self, client: Client, data: object) -> None:
        kept = self._client.max_queued_messages
        self._notices.begin(self.name, f"the broker cannot be reached; check host, port and tls; {kept} events wait")

    def _on_disconnect(
        self, client: Client, data: object, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._notices.begin(self.name, f"the broker went away: {reason}; events are kept until it is back")

    def _on_publish(
        self, client: Client, data: object, number: int, reason: ReasonCode, properties: Properties
    ) -> None:
        if number in self._own:
            self._own.discard(number)
        else:
            self.counts.sent += 1
