from typing import Any

import pytest
from click.testing import CliRunner

from jsnats.common.exceptions import DriverConnectionError, DriverOSError, DriverTimeout
from jsnats.common.utils import serve
from jsnats_driver_power.client import SwitchClient
from jsnats_driver_snmp.driver import SNMPServer
from jsnats_driver_snmp.testing import COLUMN, GOOD, READ_ONLY, SNMPD, STUCK, free_port, snmpd

pytestmark = pytest.mark.skipif(not SNMPD, reason="snmpd is not installed")


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """A PDU of snmpd."""
    number = free_port()
    with snmpd(tmp_path_factory.mktemp("snmpd"), number):
        yield number


def outlet(port: int, plug: int = GOOD, **more: Any) -> SNMPServer:
    """An outlet of it, over version 3."""
    keys: dict[str, Any] = {
        "auth_protocol": "SHA256",
        "auth_key": "authauth",
        "priv_protocol": "AES",
        "priv_key": "privpriv",
    }
    config: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "oid": COLUMN,
        "plug": plug,
        "user": "sha256",
        "timeout": 10,
    }
    return SNMPServer(**(config | keys | more))


def test_an_outlet_is_switched_and_read_back_over_a_broker(port):
    """on, off and cycle are seen by is_on, and the end of the exporter switches off."""
    with serve(outlet(port)) as client:
        assert isinstance(client, SwitchClient)
        client.on()
        assert client.is_on() is True
        client.off()
        assert client.is_on() is False
        client.cycle(0.0)
        assert client.is_on() is True
    with serve(outlet(port)) as client:
        assert client.is_on() is False


def test_commands(port):
    """`j power on`, `off`, `cycle` and `state` do what the methods do."""
    with serve(outlet(port)) as client:
        said = []
        for command in ("on", "state", "off", "state", "cycle -w 0", "state"):
            result = CliRunner().invoke(client.cli(), command.split(), catch_exceptions=False)
            assert result.exit_code == 0
            said.append(result.output.strip())
    assert said == ["", "on", "", "off", "", "on"]


def test_errors_of_the_device_arrive_as_what_they_are(port):
    """A refusal is a DriverConnectionError, a read-only outlet a DriverOSError, a stuck one a DriverTimeout."""
    for config, kind, told in (
        ({"auth_key": "wrongwrong"}, DriverConnectionError, "auth_key"),
        ({"plug": READ_ONLY}, DriverOSError, "only be read"),
        ({"plug": STUCK, "timeout": 1}, DriverTimeout, "still reads 0"),
    ):
        with serve(outlet(port, **({"plug": GOOD} | config))) as client, pytest.raises(kind, match=told):
            client.on()


def test_it_does_not_measure(port):
    """read() says so, and what to ask instead."""
    with serve(outlet(port)) as client, pytest.raises(NotImplementedError, match="is_on"):
        next(client.read())
