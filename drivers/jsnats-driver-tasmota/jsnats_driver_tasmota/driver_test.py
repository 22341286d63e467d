import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import ValidationError

from jsnats.agent import load
from jsnats.client import DriverClient
from jsnats.common.exceptions import ConfigurationError, DriverConnectionError, DriverTimeout, DriverValueError
from jsnats.common.utils import serve
from jsnats.testing import until
from jsnats_driver_power.common import PowerReading
from jsnats_driver_tasmota.driver import TasmotaPower
from jsnats_driver_tasmota.testing import (
    DEAF,
    PASSWORD,
    USER,
    Broker,
    FakePlug,
    fake_plug,
    free_port,
    make_certificate,
    mosquitto,
    mosquitto_binary,
    nats_server,
)
from jsnats_driver_tasmota.topics import Topics, energy_reading

BROKERS = {"nats-server": nats_server, "mosquitto": mosquitto}
LOGIN = {"username": USER, "password": PASSWORD}


@pytest.fixture(scope="module", params=BROKERS)
def broker(request, tmp_path_factory) -> Iterator[Broker]:
    """Each of the brokers, for all tests of this file."""
    if request.param == "mosquitto":
        needs_mosquitto()
    with BROKERS[request.param](tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def mosquitto_broker(tmp_path_factory) -> Iterator[Broker]:
    """mosquitto, with TLS and a Unix socket."""
    needs_mosquitto()
    with mosquitto(tmp_path_factory.mktemp("mosquitto")) as running:
        yield running


def needs_mosquitto() -> None:
    """Skip without it, or without openssl, which makes its certificate."""
    if not mosquitto_binary():
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")


@pytest.fixture
def plug(broker) -> Iterator[FakePlug]:
    """A plug that is off, on each of the brokers."""
    with fake_plug(broker.ports["tcp"]) as fake:
        yield fake


def driver_at(at: int, **parameters: Any) -> TasmotaPower:
    """A driver for plug-3 at that port."""
    config: dict[str, Any] = {"host": "127.0.0.1", "port": at, "topic": "plug-3", **LOGIN}
    return TasmotaPower(**(config | parameters))


@contextmanager
def power_at(broker: Broker, **parameters: Any) -> Iterator[Any]:
    """A client of that driver, behind an exporter, on a plug that may be away at the end."""
    with serve(driver_at(broker.ports["tcp"], off_at_end=False, **parameters)) as client:
        yield client


@contextmanager
def when_asked(plug: FakePlug, then: Callable[[], None]) -> Iterator[None]:
    """Do `then` once the plug has been told something in the block."""

    def wait() -> None:
        if plug.asked.wait(20):
            then()

    waiting = Thread(target=wait)
    waiting.start()
    yield
    waiting.join()


def answer(client: DriverClient) -> str:
    """What it says when it is asked whether it is on; an error, too."""
    try:
        return str(client.call("is_on"))
    except (DriverConnectionError, DriverTimeout) as error:
        return str(error)


def until_it_works(client: DriverClient) -> None:
    """The broker or the plug changes meanwhile."""
    until(lambda: answer(client) in ("True", "False"))


def test_a_plug_switches_when_it_confirms(broker, plug):
    """`on` and `off` return after the plug's own word, over MQTT, and `is_on` asks it."""
    with power_at(broker) as client:
        client.on()
        assert plug.on
        assert client.is_on()
        client.off()
        assert not plug.on
        assert not client.is_on()


def test_a_button_at_the_plug_is_seen(broker, plug):
    """The state is what the plug says, not what was sent last."""
    with power_at(broker) as client:
        client.off()
        plug.press()
        assert client.is_on()


def test_a_plug_that_keeps_its_state_is_a_timeout(broker, plug):
    """OFF in answer to ON is no confirmation, and the error says what the plug said last."""
    plug.stuck = True
    with power_at(broker, timeout=0.3) as client:
        with pytest.raises(DriverTimeout, match="not confirm ON on stat/plug-3/POWER within 0.3 s; it last said OFF"):
            client.on()
        plug.stuck = False
        client.on()
        assert plug.on


def test_a_plug_that_does_not_answer_is_a_timeout(broker, plug):
    """What was asked of a mute plug ends after `timeout`, for each method."""
    plug.mute = True
    with power_at(broker, timeout=0.2) as client:
        for method in (client.on, client.off, client.is_on, lambda: next(client.read())):
            with pytest.raises(DriverTimeout, match="within 0.2 s"):
                method()


def test_a_kept_state_confirms_nothing(broker, plug):
    """A retained ON of last week at the state topic does not pass for an answer."""
    with retained(broker, "stat/plug-3/POWER", "ON"):
        plug.mute = True
        with power_at(broker, timeout=0.3) as client, pytest.raises(DriverTimeout, match="it last said ON"):
            client.on()


@contextmanager
def retained(broker: Broker, topic: str, payload: str) -> Iterator[None]:
    """Keep a message at the broker for a block."""
    for_ever = Client(CallbackAPIVersion.VERSION2)
    for_ever.username_pw_set(USER, PASSWORD)
    for_ever.connect("127.0.0.1", broker.ports["tcp"])
    for_ever.loop_start()
    for_ever.publish(topic, payload, qos=1, retain=True).wait_for_publish(10)
    yield
    for_ever.publish(topic, "", qos=1, retain=True).wait_for_publish(10)
    for_ever.disconnect()
    for_ever.loop_stop()


def test_a_plug_that_is_pulled_is_offline_at_once(broker):
    """The broker says the plug's last will: calls end without waiting for the timeout, a running one too."""
    with fake_plug(broker.ports["tcp"]) as plug, power_at(broker, timeout=600) as client:
        client.on()
        plug.mute = True
        plug.asked.clear()
        offline = pytest.raises(DriverConnectionError, match="offline, says tele/plug-3/LWT")
        with when_asked(plug, plug.vanish), offline:
            client.on()
        for method in (client.on, client.off, client.is_on, lambda: next(client.read())):
            with pytest.raises(DriverConnectionError, match="offline"):
                method()
        with fake_plug(broker.ports["tcp"]):
            until_it_works(client)


def test_a_broker_that_comes_back_finds_the_driver(tmp_path):
    """Without its broker a call says so at once; the driver connects again by itself."""
    with (
        nats_server(tmp_path) as broker,
        power_at(broker, timeout=600) as client,
        fake_plug(broker.ports["tcp"]) as plug,
    ):
        client.on()
        broker.stop()
        until(lambda: f"MQTT broker 127.0.0.1:{broker.ports['tcp']}: [Errno" in answer(client))
        broker.start()
        plug.wait_there()
        until_it_works(client)
        client.off()
        assert not plug.on


def test_a_broker_that_goes_ends_the_call_that_waits(tmp_path):
    """A lost connection is an error at once, and what was sent is not sent again later."""
    with nats_server(tmp_path) as broker, fake_plug(broker.ports["tcp"]) as plug:
        plug.mute = True
        with power_at(broker, timeout=600) as client:
            lost = pytest.raises(DriverConnectionError, match="the connection is lost")
            with when_asked(plug, broker.stop), lost:
                client.on()
            broker.start()
            plug.wait_there()
            plug.mute = False
            until_it_works(client)
            assert not plug.on
            assert [told for told in plug.told if told[1] == "ON"] == [("POWER", "ON")]


def test_a_broker_that_is_not_there_is_said_at_once():
    """The agent starts all the same, and every call says which broker is missing and why."""
    port = free_port()
    refused = pytest.raises(DriverConnectionError, match=f"MQTT broker 127.0.0.1:{port}: .*Connection refused")
    with serve(driver_at(port, off_at_end=False, timeout=600)) as client, refused:
        client.on()


@pytest.mark.parametrize("login", [{"password": "wrong"}, {"username": None, "password": None}])
def test_a_wrong_password_is_said_at_once(broker, login):
    """A refused login is a connection error with the broker's reason, not a timeout, and no secret in it."""
    refused = pytest.raises(DriverConnectionError, match="the broker refuses: .*(Not authorized|Bad user)")
    with power_at(broker, timeout=600, **login) as client, refused as raised:
        client.on()
    assert "wrong" not in str(raised.value)


def test_a_user_who_may_not_read_is_told_so(tmp_path):
    """A refused subscription is an error at once: without it no plug could confirm."""
    refused = pytest.raises(DriverConnectionError, match="does not let this user read")
    with nats_server(tmp_path) as broker, power_at(broker, timeout=600, username=DEAF) as client, refused:
        client.on()


def test_a_lease_begins_without_a_change_and_may_end_twice(broker, plug):
    """reset() leaves the plug as it is, close() twice is off, and after stop() a call says so."""

    async def lives() -> None:
        driver = driver_at(broker.ports["tcp"])
        await driver.close()
        await driver.start()
        await driver.on()
        driver.reset()
        assert await driver.is_on()
        await driver.close()
        await driver.close()
        await driver.stop()
        await driver.stop()
        with pytest.raises(ConnectionError, match="the exporter has stopped"):
            await driver.on()

    asyncio.run(lives())
    assert [payload for _, payload in plug.told] == ["ON", "", "OFF", "OFF"]


def test_the_end_switches_off(broker, plug):
    """close() of the lease switches off."""
    with serve(driver_at(broker.ports["tcp"])) as client:
        client.on()
        assert plug.on
    assert not plug.on


def test_the_end_leaves_the_plug_when_told_so(broker, plug):
    """off_at_end: false keeps a device powered between leases."""
    with power_at(broker) as client:
        client.on()
    assert plug.on


def test_readings_come_from_the_meter(broker, plug):
    """`read` asks for status 8 again and again."""
    with power_at(broker, interval=0.01) as client:
        readings = client.read()
        assert next(readings) == PowerReading(voltage=230, current=0.113)
        plug.energy = {"Voltage": 231, "Current": 2}
        assert any(reading == PowerReading(voltage=231, current=2) for reading in readings)
        readings.close()


def test_a_plug_without_a_meter_says_so(broker, plug):
    """A status 8 without ENERGY is NotImplementedError; one that is garbage is ValueError."""
    with power_at(broker) as client:
        plug.energy = None
        with pytest.raises(NotImplementedError, match="cannot measure"):
            next(client.read())
        plug.energy = {"Voltage": "high", "Current": 1}
        with pytest.raises(DriverValueError, match="cannot be read"):
            next(client.read())


def test_a_second_relay_has_topics_of_its_own(broker):
    """cmnd_topic and stat_topic reach POWER2 of a strip, in whatever order of levels, and LWT follows from them."""
    with fake_plug(broker.ports["tcp"], "strip", relay="POWER2") as strip:
        strip.energy = {"Voltage": 230, "Current": [0.5, 1.5]}
        topics = {"cmnd_topic": "cmnd/strip/POWER2", "stat_topic": "stat/strip/POWER2"}
        with power_at(broker, topic=None, **topics) as client:
            client.on()
            assert strip.on
            assert next(client.read()).current == 1.5


def test_websockets_carry_it(broker, plug):
    """`transport: websockets` on both brokers."""
    with serve(driver_at(broker.ports["websockets"], transport="websockets")) as client:
        client.on()
        assert plug.on


def test_a_unix_socket_carries_it(mosquitto_broker):
    """`transport: unix`, with the path as host."""
    path = str(mosquitto_broker.directory / "mqtt.sock")
    driver = driver_at(1883, host=path, transport="unix")
    with fake_plug(mosquitto_broker.ports["tcp"]) as plug, serve(driver) as client:
        client.on()
        assert plug.on


def test_tls_trusts_the_authorities_of_the_file(mosquitto_broker):
    """`tls` with `ca_file` checks the certificate and the name; without `verify` neither."""
    port, ca_file = mosquitto_broker.ports["tls"], str(mosquitto_broker.directory / "cert.pem")
    with fake_plug(mosquitto_broker.ports["tcp"]) as plug:
        for trust in ({"ca_file": ca_file}, {"ca_file": ca_file, "host": "localhost"}, {"verify": False}):
            with serve(driver_at(port, tls=True, **trust)) as client:
                client.on()
                assert plug.on


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # paho leaves the socket to the collector
def test_tls_refuses_who_cannot_be_trusted(mosquitto_broker, tmp_path):
    """A certificate of somebody else is an error that says so, and no password has been sent."""
    make_certificate(tmp_path)
    for ca_file in (None, str(tmp_path / "cert.pem")):
        driver = driver_at(mosquitto_broker.ports["tls"], tls=True, ca_file=ca_file, off_at_end=False, timeout=600)
        with serve(driver) as client, pytest.raises(DriverConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            client.on()


def test_a_ca_file_that_is_not_there_stops_the_start(tmp_path):
    """The agent says it when it starts, with the path."""
    for content in (None, "no certificate"):
        path = tmp_path / "ca.pem"
        if content:
            path.write_text(content)
        driver, reason = driver_at(1883, tls=True, ca_file=str(path)), f"ca_file {path} has no certificates to trust"
        with pytest.raises(ConfigurationError, match=reason), serve(driver):
            pass


@pytest.mark.parametrize(
    ("parameters", "encrypted"),
    [({}, False), ({"port": 8883}, True), ({"tls": True}, True), ({"port": 8883, "tls": False}, False)],
)
def test_the_port_says_whether_it_is_encrypted(parameters, encrypted):
    """8883 is MQTT with TLS, 1883 without, and `tls` overrides both."""
    assert TasmotaPower(host="mqtt", topic="plug-3", **parameters)._encrypted() is encrypted


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"topic": None}, "give either topic"),
        ({"cmnd_topic": "cmnd/a/POWER"}, "give either topic"),
        ({"topic": None, "cmnd_topic": "cmnd/a/POWER"}, "give either topic"),
        ({"topic": "a/#"}, "is no topic of a plug"),
        ({"topic": ""}, "is no topic of a plug"),
        ({"topic": None, "cmnd_topic": "POWER", "stat_topic": "stat/a/POWER"}, "'POWER' is no topic"),
        ({"host": ""}, "host"),
        ({"port": 0}, "port"),
        ({"timeout": 0}, "timeout"),
        ({"transport": "pigeon"}, "tcp"),
        ({"username": None}, "needs a username"),
    ],
)
def test_impossible_parameters_are_refused(wrong, reason):
    """A wrong parameter is told by name where the driver is made."""
    with pytest.raises(ValidationError, match=reason) as raised:
        driver_at(1883, **wrong)
    assert len(raised.value.errors()) == 1


def test_topics_follow_from_the_command_topic():
    """Tasmota's FullTopic may have its levels in another order; without `cmnd` nothing tells who is offline."""
    turned = Topics("lab/plug-3/cmnd/POWER", "lab/plug-3/stat/POWER")
    assert (turned.alive, turned.ask_status, turned.energy) == (
        "lab/plug-3/tele/LWT",
        "lab/plug-3/cmnd/STATUS",
        "lab/plug-3/stat/STATUS8",
    )
    assert Topics("to/plug-3/POWER", "from/plug-3/POWER").alive == ""
    assert [Topics.of("x").channel, Topics("c/x/POWER1", "s/x/POWER1").channel, Topics("c/x/P", "s/x/P3").channel] == [
        0,
        0,
        2,
    ]


@pytest.mark.parametrize("status", [b"", b"[]", b"{}", b'{"StatusSNS":{"ENERGY":{"Current":[1]}}}', b"\xff"])
def test_a_status_that_is_none_is_a_value_error(status):
    """Whatever comes at the topic of status 8, the error shows it."""
    with pytest.raises(ValueError, match="cannot be read"):
        energy_reading(status, 1)


def test_a_password_is_not_shown():
    """The driver's text has no secret in it."""
    assert PASSWORD not in repr(driver_at(1883))


def test_the_example_is_a_valid_exporter():
    """examples/exporter.yaml gives the driver with the parameters it says."""
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    power = exporter.root.children["power"]
    assert isinstance(power, TasmotaPower)
    assert (power.host, power.port, power.topic, power._encrypted()) == ("mqtt.lab.example", 8883, "plug-3", True)
