from __future__ import annotations

from pathlib import Path

import pytest

from jsnats_driver_network.dbus import bus_address, parse
from jsnats_driver_network.driver import DbusNetwork
from jsnats_driver_network.testing import tcp_service, unix_service


@pytest.mark.parametrize("form", ["unix:path={}", "nonce-tcp:host=a,port=1;unix:path={},guid=0", "unix:abstract={}"])
async def test_the_session_bus_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The first address that a stream can reach is taken."""
    name = str(tmp_path / "bus")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", form.format(name))
    with unix_service(f"\0{name}" if "abstract" in form else name):
        async with DbusNetwork(kind="session").connect() as stream:
            await stream.send(b"AUTH")
            assert await stream.receive() == b"AUTH"


async def test_a_bus_over_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    """As containers have it."""
    with tcp_service() as port:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"tcp:host=127.0.0.1,port={port},family=ipv4")
        async with DbusNetwork(kind="system").connect() as stream:
            await stream.send(b"AUTH")
            assert await stream.receive() == b"AUTH"


def test_where_a_bus_is_looked_for() -> None:
    """In its variable, in the runtime directory, at the system's place; and what to do when it is nowhere."""
    assert bus_address("system", {}) == "unix:path=/run/dbus/system_bus_socket"
    assert bus_address("system", {"DBUS_SYSTEM_BUS_ADDRESS": "tcp:"}) == "tcp:"
    assert bus_address("session", {"XDG_RUNTIME_DIR": "/run/user/0"}) == "unix:path=/run/user/0/bus"
    with pytest.raises(ConnectionError, match="no session bus: start the exporter inside a session"):
        bus_address("session", {})


async def test_a_bus_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line, with the place or with the address that no stream can reach."""
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(ConnectionError, match=f"cannot connect to the session bus at {tmp_path}/bus: no such file"):
        async with DbusNetwork(kind="session").connect():
            pass
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "autolaunch:")
    with pytest.raises(ConnectionError, match="the session bus is at 'autolaunch:', and only"):
        async with DbusNetwork(kind="session").connect():
            pass


def test_parts_of_a_bus_address() -> None:
    """Several addresses, with escaped values."""
    assert list(parse("unix:path=/a%20b,guid=1;tcp:host=c,port=2;")) == [
        ("unix", {"path": "/a b", "guid": "1"}),
        ("tcp", {"host": "c", "port": "2"}),
    ]
