import asyncio
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jsnats.agent import load
from jsnats.common.exceptions import ConfigurationError
from jsnats_driver_snmp.driver import SNMPServer
from jsnats_driver_snmp.session import Session
from jsnats_driver_snmp.testing import (
    APC,
    COLUMN,
    GOOD,
    ODD,
    PICKY,
    READ_ONLY,
    SNMPD,
    STUCK,
    TEXT,
    free_port,
    snmpd,
)

needs_snmpd = pytest.mark.skipif(not SNMPD, reason="snmpd is not installed")
V2C: dict[str, Any] = {"version": "2c", "community": "private"}
AES: dict[str, Any] = {"auth_key": "authauth", "priv_protocol": "AES", "priv_key": "privpriv"}
SHA256: dict[str, Any] = {"user": "sha256", "auth_protocol": "SHA256", **AES}


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """A PDU of snmpd."""
    number = free_port()
    with snmpd(tmp_path_factory.mktemp("snmpd"), number):
        yield number


def outlet(port: int, plug: int = GOOD, **more: Any) -> SNMPServer:
    """An outlet of it."""
    config: dict[str, Any] = {"host": "127.0.0.1", "port": port, "oid": COLUMN, "plug": plug, "timeout": 10}
    return SNMPServer(**(config | more))


@needs_snmpd
@pytest.mark.parametrize(
    "access",
    [
        {"version": 1, "community": "private"},
        V2C,
        V2C | {"host": "::1"},
        {"user": "open"},
        {"user": "md5", "auth_protocol": "MD5", **AES, "priv_protocol": "DES"},
        {"user": "sha", "auth_protocol": "SHA", "auth_key": "authauth"},
        {"user": "sha", "auth_protocol": "SHA", **AES},
        {"user": "sha224", "auth_protocol": "SHA224", **AES},
        SHA256,
        {"user": "sha384", "auth_protocol": "SHA384", **AES},
        {"user": "sha512", "auth_protocol": "SHA512", **AES},
    ],
    ids=lambda access: "-".join(str(each) for name, each in access.items() if "key" not in name),
)
async def test_every_version_and_protocol_switches(port, access):
    """What on wrote is what snmpd holds, and off is taken too."""
    driver = outlet(port, **access)
    await driver.on()
    assert await driver.is_on() is True
    await driver.off()


@needs_snmpd
async def test_other_values(port):
    """An APC is on at 1 and off at 2."""
    driver = outlet(port, APC, off_value=2, **V2C)
    assert await driver.is_on() is False
    await driver.on()
    assert await driver.is_on() is True
    await driver.close()
    assert await driver.is_on() is False


@needs_snmpd
async def test_an_outlet_that_takes_its_time_is_waited_for(port, monkeypatch):
    """on() returns when the outlet is on, though it still reads off at first."""
    get, write = Session.get, Session.set
    reads: list[int] = []

    async def set_later(session: Session, oid: str, value: int) -> None:
        pass

    async def get_and_set(session: Session, oid: str) -> int:
        reads.append(await get(session, oid))
        if len(reads) == 2:
            await write(session, oid, 1)
        return reads[-1]

    driver = outlet(port, **V2C)
    await driver.off()
    monkeypatch.setattr(Session, "set", set_later)
    monkeypatch.setattr(Session, "get", get_and_set)
    await driver.on()
    assert reads == [0, 0, 1]


@needs_snmpd
@pytest.mark.parametrize(
    ("config", "kind", "told"),
    [
        (SHA256 | {"auth_key": "wrongwrong"}, ConnectionError, "refuses user 'sha256': wrong auth_key"),
        (SHA256 | {"auth_protocol": "SHA512"}, ConnectionError, "wrong auth_key or auth_protocol"),
        (SHA256 | {"user": "nobody"}, ConnectionError, "refuses user 'nobody': no such user"),
        (SHA256 | {"priv_key": "wrongwrong", "timeout": 1}, TimeoutError, "or not to this priv_key"),
        ({"user": "guest"} | {"auth_protocol": "SHA", **AES}, ConnectionError, "cannot have"),
        ({"user": "sha256"}, PermissionError, "authorizationError"),
        ({"user": "guest", "auth_protocol": "SHA", "auth_key": "authauth"}, PermissionError, "only be read: noAccess"),
        ({"version": "2c", "community": "nope", "timeout": 1}, TimeoutError, "or not to this community"),
        (V2C | {"plug": READ_ONLY}, PermissionError, "only be read: notWritable"),
        (V2C | {"version": 1, "plug": READ_ONLY}, PermissionError, "only be read: noSuchName"),
        (V2C | {"plug": 99}, ValueError, r"no number at 1.3.6.1.4.1.99999.1.99: No Such Object"),
        (V2C | {"version": 1, "plug": 99}, ValueError, r"99999.1.99: noSuchName"),
        (SHA256 | {"plug": 99}, ValueError, r"99999.1.99: No Such Object"),
        (V2C | {"plug": TEXT}, ValueError, "no number at .*: on"),
        (V2C | {"plug": PICKY}, ValueError, "does not take 1 at .*: wrongValue"),
        (V2C | {"plug": STUCK, "timeout": 4}, TimeoutError, "took 1 for outlet 4, which still reads 0 after 4 s"),
        (V2C | {"host": "no-host.invalid"}, ConnectionError, "no-host.invalid has no address"),
    ],
)
async def test_faults(port, config, kind, told):
    """Each is one line that says what is wrong, as the exception that it is."""
    with pytest.raises(kind, match=told) as caught:
        await outlet(port, **config).on()
    assert "\n" not in str(caught.value)


@needs_snmpd
async def test_a_state_that_is_neither(port):
    """An outlet that reads 7 is neither on nor off."""
    with pytest.raises(ValueError, match="reads 7: neither"):
        await outlet(port, ODD, **V2C).is_on()


@needs_snmpd
async def test_a_pdu_that_is_restarted(tmp_path):
    """With its boots counted anew, as cheap ones do, it is asked as before."""
    number = free_port()
    driver = outlet(number, **SHA256)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        with snmpd(tmp_path / name, number):
            await driver.on()


@pytest.fixture
def silence():
    """A port at which nobody answers."""
    with socket.socket(type=socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.setblocking(False)
        yield bound


@pytest.mark.parametrize("access", [V2C, SHA256], ids=["2c", "3"])
@pytest.mark.parametrize("retries", [0, 2])
async def test_silence_ends_in_time(silence, access, retries):
    """A request is sent `retries` times more, and all of it takes `timeout`."""
    driver = outlet(silence.getsockname()[1], timeout=2.4, retries=retries, **access)
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match="does not answer to SNMP"):
        await driver.close()
    assert 2.0 < time.monotonic() - begin < 20
    assert silence.recv(2000)
    for _ in range(retries):  # all of them, unless this machine is too busy for the last
        with suppress(BlockingIOError):
            assert silence.recv(2000)
    with pytest.raises(BlockingIOError):
        silence.recv(2000)


async def test_a_call_that_is_cancelled_leaves_nothing(silence):
    """It ends at once, and its engine with it."""
    before = asyncio.all_tasks()
    call = asyncio.ensure_future(outlet(silence.getsockname()[1], timeout=60, **V2C).on())
    silence.setblocking(True)
    await asyncio.to_thread(silence.recv, 2000)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    async with asyncio.timeout(10):
        await asyncio.gather(*(asyncio.all_tasks() - before))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"version": 2}, "'1', '2c' or '3'"),
        ({"version": "2c"}, "version 2c needs a community"),
        ({"version": 1, "community": "private", "user": "me"}, "are for version 3"),
        ({"version": 1, "community": "private", "auth_protocol": "MD5"}, "are for version 3"),
        ({}, "version 3 needs a user"),
        ({"user": "me", "community": "private"}, "community is for versions 1 and 2c"),
        ({"user": "me", "auth_protocol": "MD5"}, "auth_protocol and auth_key go together"),
        ({"user": "me", "auth_key": "authauth"}, "auth_protocol and auth_key go together"),
        ({"user": "me", "priv_protocol": "AES"}, "priv_protocol and priv_key go together"),
        ({"user": "me", "priv_protocol": "AES", "priv_key": "privpriv"}, "privacy needs authentication"),
        ({"user": "me", "auth_protocol": "SHA1", "auth_key": "authauth"}, "auth_protocol"),
        ({"user": "me", "auth_protocol": "SHA", "auth_key": "short"}, "at least 8"),
        ({"user": "me", "on_value": 0}, "on_value and off_value are the same"),
        ({"user": "me", "on_value": 1 << 31}, "on_value"),
        ({"user": "me", "oid": "1.3.six"}, "is no OID"),
        ({"user": "me", "oid": "1.3..6"}, "is no OID"),
        ({"user": "me", "oid": "1.40.6"}, "is no OID"),
        ({"user": "me", "oid": "1.3.4294967296"}, "is no OID"),
        ({"user": "me", "plug": -1}, "plug"),
        ({"user": "me", "port": 0}, "port"),
        ({"user": "me", "host": ""}, "host"),
        ({"user": "me", "timeout": 0}, "timeout"),
        ({"user": "me", "retries": -1}, "retries"),
        ({"user": "me", "quiescent_period": 5}, "quiescent_period"),
    ],
)
def test_impossible_parameters_are_refused(wrong, told):
    """Before anything is sent."""
    with pytest.raises(ValidationError, match=told):
        SNMPServer(**({"host": "pdu", "plug": 1} | wrong))


def test_an_oid_may_begin_with_a_dot():
    """As net-snmp's tools print it with -On."""
    assert SNMPServer(host="pdu", plug=4, user="me", oid=".1.3.6.1")._outlet == "1.3.6.1.4"


def test_keys_are_not_shown(tmp_path):
    """Neither a driver's repr nor the refusal of a file has a key in it."""
    assert "authauth" not in repr(SNMPServer(host="pdu", plug=1, **SHA256))
    file = tmp_path / "exporter.yaml"
    file.write_text(
        "name: bench-1\nexport:\n  power:\n    type: jsnats_driver_snmp.driver.SNMPServer\n    config: {host: pdu,"
        " plug: 1, user: me, auth_protocol: SHA, auth_key: secret1, priv_protocol: AES, priv_key: verysecret}\n"
    )
    with pytest.raises(ConfigurationError, match="auth_key") as caught:
        load([file])
    assert "secret" not in str(caught.value)


def test_the_example_is_a_valid_exporter(monkeypatch):
    """examples/exporter.yaml gives the drivers with the parameters it says."""
    for name in ("PDU_AUTH_KEY", "PDU_PRIV_KEY", "PDU_COMMUNITY"):
        monkeypatch.setenv(name, f"the {name}")
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    made = {name: vars(child) for name, child in exporter.root.children.items()}
    assert (made["power"]["version"], made["power"]["priv_key"]) == ("3", "the PDU_PRIV_KEY")
    assert made["power"]["_outlet"] == "1.3.6.1.4.1.13742.6.4.1.2.1.2.1.3"
    assert (made["monitor"]["version"], made["monitor"]["community"]) == ("2c", "the PDU_COMMUNITY")
    assert (made["monitor"]["on_value"], made["monitor"]["off_value"], made["monitor"]["timeout"]) == (1, 2, 10)
