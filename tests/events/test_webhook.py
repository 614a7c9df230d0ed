"""Webhooks: signatures, retries, bounds, redirections."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pydantic import SecretStr

from edge_stscq.errors import EdgeError
from edge_stscq.events.notices import Notices
from edge_stscq.events.webhook import WebhookPublisher, signature
from tests.demo_camera.service.doubles import Received, Receiver, Said, wait_for

Answer = tuple[int, dict[str, str], bytes]
SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes, or").decode()


def answering(*statuses: int) -> Callable[[Received], Answer]:
    """Answers with these statuses, the last one again and again."""
    left = list(statuses)
    return lambda request: (left.pop(0) if len(left) > 1 else left[0], {}, b"")


@contextmanager
def publishing(url: str, said: Said, secret: str = SECRET, most: int = 100) -> Iterator[WebhookPublisher]:
    publisher = WebhookPublisher(url, SecretStr(secret), Notices(said), most_waiting=most, first_pause=0.01)
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.close()
        publisher.join(10)
        assert not publisher.is_alive()


def test_signature_is_that_of_the_standard() -> None:
    """The example of https://www.standardwebhooks.com."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == expected


@pytest.mark.parametrize(("secret", "key"), [(SECRET, b"a secret of 24 bytes, or"), ("plain", b"plain")])
def test_message_is_posted_with_its_signature(secret: str, key: bytes) -> None:
    with Receiver(answering(204)).running() as server:
        with publishing(f"{server.url}/hook?x=1", Said(), secret) as publisher:
            publisher.publish({"camera": "door"})
            wait_for(lambda: publisher.counts.sent == 1)
        (request,) = server.received
    assert request.path == "/hook?x=1"
    assert json.loads(request.body) == {"camera": "door"}
    assert request.headers["content-type"] == "application/json"
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{digest}"


def test_message_is_tried_again_under_its_id_until_it_is_taken() -> None:
    said = Said()
    with Receiver(answering(503, 429, 200)).running() as server:
        with publishing(server.url, said) as publisher:
            publisher.publish({"n": 1})
            publisher.publish({"n": 2})
            wait_for(lambda: publisher.counts.sent == 2)
        assert [json.loads(one.body)["n"] for one in server.received] == [1, 1, 1, 2]
        assert len({one.headers["webhook-id"] for one in server.received}) == 2
    assert [event for event, _ in said.events] == ["trouble", "over"]
    assert publisher.counts.lost == 0


def test_message_that_is_refused_is_lost_and_said_once() -> None:
    said = Said()
    with Receiver(answering(401)).running() as server, publishing(server.url, said) as publisher:
        for number in range(3):
            publisher.publish({"n": number})
        wait_for(lambda: publisher.counts.lost == 3)
        assert len(server.received) == 3
    assert len(said.events) == 1
    assert "refused events with 401" in str(said.of("trouble")[0]["text"])


def test_redirection_is_not_followed() -> None:
    said = Said()
    with Receiver(answering(200)).running() as other:

        def redirect(request: Received) -> Answer:
            return 307, {"Location": other.url}, b""

        with Receiver(redirect).running() as server, publishing(server.url, said) as publisher:
            publisher.publish({"n": 1})
            wait_for(lambda: publisher.counts.lost == 1)
        assert other.received == []
    assert "redirections are not followed" in str(said.of("trouble")[0]["text"])


def test_messages_beyond_the_bound_are_lost_oldest_first() -> None:
    held = threading.Event()

    def answer(request: Received) -> Answer:
        held.wait(10)
        return 200, {}, b""

    with Receiver(answer).running() as server, publishing(server.url, Said(), most=2) as publisher:
        publisher.publish({"n": 0})
        wait_for(lambda: server.received)
        for number in range(1, 5):
            publisher.publish({"n": number})
        held.set()
        wait_for(lambda: publisher.counts.sent == 3)
        assert [json.loads(one.body)["n"] for one in server.received] == [0, 3, 4]
        assert publisher.counts.lost == 2


def test_end_waits_for_no_address_that_is_away_and_counts_what_is_left() -> None:
    said = Said()
    with publishing("http://127.0.0.1:1/secret-path", said) as publisher:
        publisher.publish({"n": 1})
        wait_for(lambda: said.of("trouble"))
    assert publisher.counts.lost == 1
    assert "secret-path" not in str(said.events)


def test_secret_that_is_no_base64_is_refused_without_showing_it() -> None:
    with pytest.raises(EdgeError, match="not base64") as caught:
        WebhookPublisher("http://127.0.0.1:1", SecretStr("whsec_!hunter2!"), Notices(Said()))
    assert "hunter2" not in str(caught.value)
