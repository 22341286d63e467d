"""MQTT: a viewer with a password reads along by any MQTT 3.1.1 client, and can do nothing else."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from typer.testing import CliRunner

from jsnats.broker import LabDir
from jsnats.broker.cli import auth_app
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.schemas import ConfigurationError, Event
from jsnats.sdk import connect, open_connection, store_event

WAIT_S = 10.0


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    """A broker with MQTT, an exporter, a user and a viewer by MQTT."""
    with running_broker(mqtt=0, principals={"exporter": ["bench-1"], "user": ["ann"]}) as broker:
        broker.inner.lab.add_mqtt("Vera's phone")
        yield broker


class Phone:
    """A plain MQTT client. What comes is in `messages`, answers to requests are waited for."""

    def __init__(self, broker: TestBroker, password: str = "", will: str = "") -> None:
        login = json.loads(broker.context_path("Vera's phone").read_text())
        self.messages: queue.Queue[Any] = queue.Queue()
        self._answers: queue.Queue[Any] = queue.Queue()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        self.client.username_pw_set(login["username"], password or login["password"])
        if will:
            self.client.will_set(will, b"{}")
        self.client.on_connect = lambda *told: self._answers.put(told[3])
        self.client.on_subscribe = lambda *told: self._answers.put(told[3][0])
        self.client.on_message = lambda *told: self.messages.put(told[2])
        self.client.connect("127.0.0.1", broker.inner.mqtt)
        self.client.loop_start()
        self.refused = self._answers.get(timeout=WAIT_S).is_failure

    def subscribe(self, topic: str, qos: int = 0) -> bool:
        """Whether the broker lets us."""
        self.client.subscribe(topic, qos)
        return not self._answers.get(timeout=WAIT_S).is_failure


@contextmanager
def phone(broker: TestBroker, **options: Any) -> Iterator[Phone]:
    """A client for one block."""
    one = Phone(broker, **options)
    yield one
    one.client.disconnect()
    one.client.loop_stop()


async def happen(broker: TestBroker, count: int) -> list[Event]:
    """Store events of bench-1."""
    async with await open_connection(broker.context("bench-1")) as bench:
        events = [Event(source="bench-1", type="lease.granted", data={"number": number}) for number in range(count)]
        for event in events:
            await store_event(bench, event)
    return events


@pytest.mark.parametrize("qos", [0, 1])
def test_an_mqtt_client_sees_the_events_that_the_sdk_sees(broker: TestBroker, qos: int) -> None:
    """The same ids, in the same order, the same bytes; the topic says whose it is and what."""
    with phone(broker) as one, connect(context=broker.context("ann")) as lab:
        events = lab.events(follow=True)
        assert one.subscribe("jsnats/event/#", qos)
        told = asyncio.run(happen(broker, 20))
        got = [one.messages.get(timeout=WAIT_S) for _ in told]
        seen = [next(events) for _ in told]
        events.close()
    assert [json.loads(each.payload)["id"] for each in got] == [each.id for each in seen] == [each.id for each in told]
    assert [each.payload for each in got] == [each.encode() for each in told]
    assert {each.topic for each in got} == {"jsnats/event/bench-1/lease/granted"}


def test_a_viewer_by_mqtt_only_reads(broker: TestBroker) -> None:
    """Events, logs and consoles of one exporter or all; no calls, no store, no publishing, not even by a last will."""
    fake = "jsnats/event/bench-1/lease/ended"
    with phone(broker) as watching:
        assert watching.subscribe("jsnats/event/#")
        with phone(broker, will=fake) as one:
            for topic in ("jsnats/event/bench-1/#", "jsnats/event/+/lease/granted", "jsnats/log/#", "jsnats/watch/#"):
                assert one.subscribe(topic)
            for topic in ("jsnats/call/#", "jsnats/reply/#", "$KV/#", "$JS/#", "#", "jsnats/#"):
                assert not one.subscribe(topic)
            one.client.publish(fake, b"{}", retain=True)
            one.client.publish("$JS/API/STREAM/PURGE/JSNATS_EVENTS", b"")
            one.client.socket().shutdown(2)  # type: ignore[union-attr]  # without a goodbye: its will is due
        (told,) = asyncio.run(happen(broker, 1))
        assert json.loads(watching.messages.get(timeout=WAIT_S).payload)["id"] == told.id


def test_a_password_is_for_mqtt_alone(broker: TestBroker) -> None:
    """A wrong one is refused; the right one opens no connection of NATS."""
    with phone(broker, password="guessed") as one:
        assert one.refused
    login = json.loads(broker.context_path("Vera's phone").read_text())
    said = asyncio.run(_raw(broker.url, {"user": login["username"], "pass": login["password"]}))
    assert "Authorization Violation" in said


def test_revoking_ends_a_connection(broker: TestBroker) -> None:
    """The client is dropped at once, and not let in again; a new password lets it in."""
    with phone(broker) as one:
        gone = threading.Event()
        one.client.on_disconnect = lambda *told: gone.set()
        old = json.loads(broker.context_path("Vera's phone").read_text())["password"]
        broker.revoke("Vera's phone")
        assert gone.wait(WAIT_S)
    broker.inner.lab.add_mqtt("Vera's phone")
    with phone(broker, password=old) as one:
        assert one.refused
    with phone(broker) as one:
        assert not one.refused


async def _raw(url: str, login: dict[str, str]) -> str:
    host, _, port = url.removeprefix("nats://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    await reader.readline()
    writer.write(b"CONNECT " + json.dumps({"verbose": False, **login}).encode() + b"\r\nPING\r\n")
    answer = await reader.readline()
    writer.close()
    return answer.decode()


def test_auth_add_viewer_mqtt(tmp_path: Path) -> None:
    """Prints the file, which only the owner can read; a name has one way in; others than viewers are refused."""
    run = CliRunner().invoke
    lab = LabDir(tmp_path)
    result = run(auth_app, ["add", "viewer", "vera", "--mqtt", "--dir", str(tmp_path)])
    path = Path(result.stdout.strip())
    assert path.stat().st_mode & 0o777 == 0o600
    assert lab.add_mqtt("vera") == path
    assert json.loads(path.read_text()) == {"username": "vera", "password": lab.principals()[1].password}
    assert "vera (mqtt)" in run(auth_app, ["ls", "--dir", str(tmp_path)]).stdout
    assert lab.principals()[1].password not in run(auth_app, ["ls", "--json", "--dir", str(tmp_path)]).stdout
    with pytest.raises(ConfigurationError, match="'vera' is already viewer by MQTT"):
        lab.add("viewer", "vera")
    with pytest.raises(ConfigurationError, match="'broker' is already admin"):
        lab.add_mqtt("broker")
    refused = run(auth_app, ["add", "user", "bob", "--mqtt", "--dir", str(tmp_path)])
    assert (refused.exit_code, "--mqtt makes viewers" in refused.stderr) == (2, True)
    lab.revoke("vera")
    assert not path.exists()


def test_mqtt_is_off_unless_asked_for(tmp_path: Path) -> None:
    """It listens nowhere, and a port that was given once is forgotten."""
    for options, listens in (({"mqtt": 0}, True), ({}, False)):
        with running_broker(tmp_path, **options) as broker:
            assert bool(broker.inner.mqtt) is listens
            assert ("\nmqtt: " in "\n" + (tmp_path / "nats.conf").read_text()) is listens
