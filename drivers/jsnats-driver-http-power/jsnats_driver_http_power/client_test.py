from contextlib import closing, contextmanager
from typing import Any

import pytest
from click.testing import CliRunner

from jsnats.common.exceptions import DriverConnectionError, DriverError
from jsnats.common.utils import serve
from jsnats_driver_http_power.driver import HttpPower
from jsnats_driver_power.client import SwitchClient

from .testing import SYSTEM, plugged

READING = (230.5, 0.12)


@contextmanager
def powered(plug, **options):
    """A client of the plug's own dialect."""
    api = f"{plug.url}/api/power"
    config = {
        "power_on": {"url": api, "method": "POST", "json": {"power": "ON"}, "expect": {"result": "ok"}},
        "power_off": {"url": api, "method": "POST", "json": {"power": "OFF"}, "expect": "ok"},
        "power_state": {"url": api, "path": "outlets[0].power", "is_on": "ON", "is_off": "OFF"},
        "power_read": {
            "url": f"{plug.url}/api/meter",
            "voltage_path": "volts",
            "current_path": "milliamps",
            "current_scale": 0.001,
        },
    }
    with serve(HttpPower(**{**config, "timeout": 0.3, "settle": 0.3, **options})) as client:
        yield client
        plug.fault = ""  # so that the end of the lease can switch off


def test_any_interface_is_switched_and_read_by_its_requests():
    """Configured requests switch, tell the state and measure; the end of the lease switches off."""
    with plugged() as plug:
        with powered(plug) as client:
            assert isinstance(client, SwitchClient)
            client.on()
            assert plug.on
            assert client.is_on() is True
            with closing(client.read()) as readings:
                reading = next(readings)
            assert (reading.voltage, reading.current) == READING
            client.off()
            assert client.is_on() is False
            client.on()
        assert not plug.on


@pytest.mark.parametrize(
    ("kind", "scheme", "outlet", "measures"),
    [
        ("shelly-gen1", "basic", None, False),
        ("shelly-gen2", "digest", None, True),
        ("tasmota", "query", None, True),
        ("redfish", "session", SYSTEM.rpartition("/")[2], False),
        ("redfish", "basic", SYSTEM.rpartition("/")[2], False),
    ],
)
def test_known_devices_need_their_kind_and_address_only(kind, scheme, outlet, measures):
    """Each kind logs in, switches twice the same way, tells the state, and measures if its device can."""
    login: Any = {"user": "admin", "password": "geheim&süß"}
    with plugged(scheme=scheme, **login) as plug:
        config: Any = {"kind": kind, "url": f"{plug.url}/", "outlet": outlet, "auth": {scheme: login}}
        with serve(HttpPower(**config)) as client:
            for on in (True, True, False, False, True):
                (client.on if on else client.off)()
                assert (plug.on, client.is_on()) == (on, on)
            if measures:
                with closing(client.read()) as readings:
                    reading = next(readings)
                assert (reading.voltage, reading.current) == READING
            else:
                with pytest.raises(NotImplementedError, match="cannot measure"):
                    next(client.read())
        assert not plug.on
        assert not plug.sessions


def test_the_state_is_polled_until_it_follows():
    """A device that still tells the old state twice is asked a third time."""
    with plugged(lag=2) as plug, powered(plug, settle=10) as client:
        client.on()
        assert [method for method, _ in plug.asked] == ["POST", "GET", "GET", "GET"]


def test_a_device_that_does_not_switch_is_a_timeout():
    """It answered that all is well, and its state says otherwise."""
    with plugged(fault="stuck") as plug, powered(plug) as client:
        with pytest.raises(TimeoutError, match="reports 'OFF', not 'ON', after 0.3 s"):
            client.on()
        client.off()


@pytest.mark.parametrize(
    ("fault", "error", "told"),
    [
        ("500", ConnectionError, "answered 500 Internal Server Error: 'out of memory'"),
        ("garbage", ConnectionError, "answered what is no JSON: '<html>"),
        ("redirect", ConnectionError, "answered 302 Found: it is at http://127.*/login$"),
        ("hang", TimeoutError, "did not answer within 0.3 s"),
        ("drip", TimeoutError, "did not answer within 0.3 s"),
        ("drop", ConnectionError, "/api/power: "),
        ("cut", ConnectionError, "/api/power: the connection broke"),
        ("endless", ConnectionError, "more than 1 MiB"),
    ],
)
def test_a_fault_of_the_device_is_an_error_of_the_call(fault, error, told):
    """Each has its error, which says what the device did; after it the device is used again."""
    with plugged(fault=fault) as plug, powered(plug, timeout=5 if fault == "endless" else 0.3) as client:
        for call in (client.on, client.is_on):
            with pytest.raises(error, match=told):
                call()
        plug.fault = ""
        client.on()
        assert plug.on


def test_a_request_whose_caller_has_left_does_not_come_after_the_next():
    """The caller of on() gives up while a slow device still thinks; off() waits for it, and the board ends cold."""
    with plugged(fault="slow") as plug, powered(plug, timeout=10, settle=10) as client:
        with pytest.raises(TimeoutError):
            client.options(timeout_s=0.1).on()
        plug.fault = ""
        client.off()
        assert [body for _, body in plug.heard if body] == ['{"power": "ON"}', '{"power": "OFF"}']
        assert not plug.on


def test_no_device_is_a_connection_error():
    """Nobody listens at the address: switching off at the end cannot work either, and is no reason to hang."""
    with plugged() as plug:
        url = plug.url
    refused = pytest.raises(DriverConnectionError, match="Connection refused")
    with serve(HttpPower(kind="shelly-gen1", url=url)) as client, refused:
        client.on()


@pytest.mark.parametrize("scheme", ["basic", "digest", "query", "session", "bearer"])
def test_refused_credentials_say_so(scheme):
    """401 is an OSError that tells the address, and neither user nor password."""
    login: Any = {"user": "admin", "password": "guess"}
    auth = {"bearer": "guess"} if scheme == "bearer" else {scheme: login}
    with plugged(scheme=scheme, user="admin", password="secret") as plug, powered(plug, auth=auth) as client:
        with pytest.raises(OSError, match="401.*refuses these credentials") as caught:
            client.on()
        assert isinstance(caught.value, DriverError)
        assert "guess" not in str(caught.value)
        assert not plug.on
        plug.scheme = ""


def test_a_bearer_token_is_sent():
    """`auth: {bearer: token}` is the Authorization header."""
    with plugged(scheme="bearer", password="t0ken") as plug, powered(plug, auth={"bearer": "t0ken"}) as client:
        client.on()
        assert plug.on


def test_a_session_is_used_again_until_the_service_drops_it():
    """One login for a lease; one that was dropped is an error once, and begun anew after it."""
    login: Any = {"user": "root", "password": "calvin"}
    with plugged(scheme="session", **login) as plug, powered(plug, auth={"session": login}) as client:
        client.on()
        client.off()
        assert plug.begun == 1
        plug.sessions.clear()
        with pytest.raises(OSError, match="401"):
            client.on()
        client.on()
        assert plug.begun == 2


def test_a_state_that_is_neither_is_no_state():
    """`PoweringOn` is not reported as on or off."""
    with plugged() as plug:
        state = {"url": f"{plug.url}/api/text", "is_on": "1", "is_off": "0"}
        neither = pytest.raises(ConnectionError, match="reports 'OFF', which is neither on nor off")
        with powered(plug, power_state=state) as client, neither:
            client.is_on()


def test_an_answer_may_be_plain_text():
    """Without a path the whole answer is the state, JSON or not."""
    with plugged() as plug:
        state = {"url": f"{plug.url}/api/text", "is_on": "ON", "is_off": "OFF"}
        with powered(plug, power_state=state) as client:
            client.on()
            assert client.is_on()


@pytest.mark.parametrize(
    ("expect", "told"),
    [
        ({"result": "done"}, "answered result 'ok', not 'done'"),
        ({"results[0]": "ok"}, r"answered without results\[0\]"),
        ("done", "not 'done'"),
    ],
)
def test_an_unexpected_answer_is_an_error(expect, told):
    """A device that says 200 and means no is not believed."""
    with plugged() as plug:
        request = {"url": f"{plug.url}/api/power", "method": "POST", "json": {"power": "ON"}, "expect": expect}
        with powered(plug, power_on=request) as client, pytest.raises(ConnectionError, match=told):
            client.on()


def test_a_reading_must_be_a_number():
    """true is no current."""
    with plugged() as plug:
        read = {"url": f"{plug.url}/relay/0", "voltage_path": "ison", "current_path": "ison"}
        with powered(plug, power_read=read) as client, pytest.raises(ConnectionError, match="no number"):
            next(client.read())


def test_without_requests_for_them_there_is_no_state_and_no_reading():
    """Two requests make a switch; it is believed, and says what it cannot do."""
    with plugged() as plug, powered(plug, power_state=None, power_read=None) as client:
        client.on()
        assert [method for method, _ in plug.asked] == ["POST"]
        with pytest.raises(NotImplementedError, match="power_state"):
            client.is_on()
        with pytest.raises(NotImplementedError, match="power_read"):
            next(client.read())


def test_headers_and_a_body_are_sent_as_they_are():
    """What the configuration says is what the device hears."""
    with plugged() as plug:
        request = {
            "url": f"{plug.url}/api/power",
            "method": "POST",
            "headers": {"X-Key": "42"},
            "body": '{"power":"ON"}',
        }
        with powered(plug, power_on=request) as client:
            client.on()
            headers, body = plug.heard[0]
            assert (headers["X-Key"], body) == ("42", '{"power":"ON"}')


def test_commands():
    """`j power state` says on or off, beside the commands of every power driver."""
    with plugged() as plug, powered(plug) as client:
        said = []
        for arguments in (["state"], ["on"], ["state"], ["cycle", "-w", "0"], ["state"], ["off"], ["state"]):
            result = CliRunner().invoke(client.cli(), arguments, catch_exceptions=False)
            assert result.exit_code == 0
            said.append(result.output)
        assert "".join(said).split() == ["off", "on", "on", "off"]
        result = CliRunner().invoke(client.cli(), ["read", "-n", "1"], catch_exceptions=False)
        assert result.output.split() == ["230.500", "V", "0.000", "A", "0.000", "VA"]
