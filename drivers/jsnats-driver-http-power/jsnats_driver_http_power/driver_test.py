import re
import shutil
import ssl
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from pydantic import ValidationError

from jsnats.agent import load
from jsnats.common.utils import serve
from jsnats.driver import methods_of
from jsnats_driver_http_power.driver import HttpPower

from .testing import plugged

EMULATOR = Path(sys.executable).with_name("sushy-emulator")
SYSTEM = "27946b59-9e44-4fa7-8e91-f3527a1ef094"
LOGIN: Any = {"user": "admin", "password": "geheim"}
SHELLY: Any = {"kind": "shelly-gen1", "url": "http://plug"}
REQUESTS: Any = {"power_on": {"url": "http://plug/on"}, "power_off": {"url": "http://plug/off"}}


def redfish(url: str, **options: Any) -> HttpPower:
    """The emulator's server."""
    return HttpPower(**{"kind": "redfish", "url": url, "outlet": SYSTEM, "auth": {"basic": LOGIN}, **options})


@contextmanager
def sushy(folder: Path):
    """A Redfish service with one simulated server, which wants a login; its address."""
    hashed = bcrypt.hashpw(LOGIN["password"].encode(), bcrypt.gensalt(4)).decode()
    (folder / "users").write_text(f"{LOGIN['user']}:{hashed}\n")
    settings = {"LISTEN_PORT": 0, "LISTEN_IP": "127.0.0.1", "STATE_DIR": str(folder), "AUTH_FILE": f"{folder}/users"}
    config = folder / "emulator.conf"
    lines = [f"SUSHY_EMULATOR_{name} = {value!r}" for name, value in settings.items()]
    lines += ["import random", "random.randint = lambda *_: 2"]  # s until the power follows, instead of 1 to 11
    config.write_text("\n".join(lines))
    command = [str(EMULATOR), "--fake", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as emulator:
        try:
            assert emulator.stderr
            for line in emulator.stderr:
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    yield found[0]
                    return
            pytest.fail("sushy-emulator did not start")
        finally:
            emulator.kill()


@pytest.mark.skipif(not EMULATOR.exists(), reason="sushy-emulator is not installed (sushy-tools)")
def test_a_redfish_service_switches_a_while_after_it_answered(tmp_path):
    """on() and off() return when PowerState has followed, seconds later; a wrong password is refused."""
    with sushy(tmp_path) as url:
        with serve(redfish(url)) as client:
            assert client.is_on() is False
            client.on()
            assert client.is_on() is True
            client.on()
            client.off()
            assert client.is_on() is False
        with (
            serve(redfish(url, auth={"basic": {**LOGIN, "password": "guess"}})) as client,
            pytest.raises(OSError, match="401"),
        ):
            client.on()
        with serve(redfish(url, outlet="nobody")) as client, pytest.raises(ConnectionError, match="404"):
            client.on()


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_a_certificate_is_checked_unless_told_not_to(tmp_path):
    """One that the device signed itself is refused, taken as its own authority, and taken unchecked."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=plug -keyout {key} -out {certificate}"
    subprocess.run([*make.split(), "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with plugged(tls=context) as plug:
        refused = pytest.raises(ConnectionError, match="(?i)certificate")
        with serve(HttpPower(kind="shelly-gen1", url=plug.url)) as client, refused:
            client.on()
        for verify in (certificate, False):
            with serve(HttpPower(kind="shelly-gen1", url=plug.url, tls_verify=verify)) as client:
                client.on()
                assert plug.on


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({}, "give a kind, or power_on and power_off"),
        ({"power_on": {"url": "http://plug/on"}}, "give a kind, or power_on and power_off"),
        ({"kind": "shelly-gen1"}, "needs url"),
        ({"kind": "shelly-gen9", "url": "http://plug"}, "kind"),
        ({"kind": "redfish", "url": "http://bmc"}, "needs outlet"),
        ({**REQUESTS, "url": "http://plug"}, "go with a kind"),
        ({"kind": "tasmota", "url": "plug"}, "a URL is http://"),
        ({"kind": "tasmota", "url": "http://plug:80000"}, "Port out of range"),
        ({"kind": "tasmota", "url": "http://admin:secret@plug"}, "say them in auth"),
        ({**REQUESTS, "power_on": {"url": "http://plug", "body": "on"}}, "a GET has no body"),
        ({**REQUESTS, "power_on": {"url": "http://plug", "method": "POST", "body": "", "json": 1}}, "not both"),
        ({**REQUESTS, "power_on": {"url": "http://plug", "expect": {"a[": 1}}}, "is no JSON path"),
        ({**REQUESTS, "power_state": {"url": "http://plug", "path": "a..b"}}, "is no JSON path"),
        ({**REQUESTS, "power_read": {"url": "http://plug", "voltage_path": "v"}}, "current_path"),
        ({**SHELLY, "auth": {}}, "auth is one of"),
        ({**SHELLY, "auth": {"basic": LOGIN, "digest": LOGIN}}, "auth is one of"),
        ({**SHELLY, "tls_verify": "/there/is/none.pem"}, "tls_verify"),
        ({**SHELLY, "timeout": 0}, "greater than 0"),
        ({**SHELLY, "interval": 0}, "greater than 0"),
        ({**SHELLY, "retries": 3}, "retries"),
    ],
)
def test_impossible_parameters_are_refused(wrong, told):
    """Before anything is asked, in words that say what to write."""
    with pytest.raises(ValidationError, match=told):
        HttpPower(**wrong)


def test_passwords_are_not_shown():
    """A driver that is printed shows who logs in, and not with what."""
    auths: list[Any] = [{"digest": LOGIN}, {"bearer": "geheim"}]
    for auth in auths:
        assert "geheim" not in repr(HttpPower(**SHELLY, auth=auth))


def test_a_request_replaces_that_of_the_kind():
    """An outlet of a known device may have a meter elsewhere."""
    meter: Any = {"url": "http://meter/emeter/0", "voltage_path": "voltage", "current_path": "current"}
    requests = HttpPower(**SHELLY, outlet=1, power_read=meter)._requests
    assert requests.read
    assert requests.read.url == "http://meter/emeter/0"
    assert requests.on.url == "http://plug/relay/1?turn=on"


def test_it_is_a_power_driver():
    """on, off, cycle and read of every power driver, with the marker in the consoles, and state."""
    methods = {name: method.kind for name, method in methods_of(HttpPower).items()}
    assert methods == {"on": "call", "off": "call", "cycle": "call", "is_on": "call", "read": "stream"}
    assert methods_of(HttpPower)["on"].marker == "power-on"


async def test_close_switches_off_as_often_as_it_is_called():
    """The end of a lease twice is harmless; with a session, each leaves none behind."""
    with plugged(scheme="session", **LOGIN) as plug:
        driver = HttpPower(**{**SHELLY, "url": plug.url, "auth": {"session": LOGIN}})
        await driver.on()
        for _ in range(2):
            await driver.close()
            assert (plug.on, plug.sessions) == (False, set())


async def test_close_says_when_it_could_not_switch_off():
    """A plug that is gone may still feed the board: the agent has to know."""
    with plugged() as plug:
        driver = HttpPower(kind="shelly-gen1", url=plug.url)
    with pytest.raises(ConnectionError, match="Connection refused"):
        await driver.close()


def test_the_example_is_a_valid_exporter():
    """examples/exporter.yaml gives the drivers with the parameters it says."""
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    made = {name: vars(child) for name, child in exporter.root.children.items()}
    assert made["plug"]["_requests"].on.url == "http://192.168.1.20/rpc/Switch.Set?id=0&on=true"
    assert made["sonoff"]["_requests"].off.url == "http://192.168.1.21/cm?cmnd=Power2%20Off"
    assert made["server"]["_requests"].state.url == "https://192.168.1.22/redfish/v1/Systems/System.Embedded.1"
    assert (made["server"]["tls_verify"], made["server"]["settle"]) == (False, 30)
    assert made["pdu"]["power_read"].current_scale == 0.001
