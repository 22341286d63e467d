from typing import Any

import pytest
from click.testing import CliRunner

from jsnats.common.exceptions import DriverConnectionError, DriverNotImplemented, DriverTimeout
from jsnats.common.utils import serve
from jsnats_driver_composite.driver import Composite
from jsnats_driver_power.client import SwitchClient

from .driver import EnerGenie
from .testing import FakeStrip, fake_strip, somebody_else


def socket(strip: FakeStrip, **parameters: Any) -> EnerGenie:
    """The driver of a socket of that strip."""
    return EnerGenie(host="127.0.0.1", port=strip.port, **{"timeout": 5.0} | parameters)


def test_a_socket_is_switched_over_a_broker():
    """on, off and cycle reach the strip, is_on comes back, and nobody stays logged in."""
    with fake_strip() as strip, serve(socket(strip, slot=3)) as client:
        assert isinstance(client, SwitchClient)
        client.on()
        assert (client.is_on(), strip.states) == (True, [False, False, True, False])
        client.off()
        assert (client.is_on(), strip.states) == (False, [False] * 4)
        client.cycle(0.0)
        assert strip.states == [False, False, True, False]
        assert strip.session == ""


def test_two_sockets_of_one_strip_in_one_exporter():
    """Each has its own, and they share the strip's one session in turn."""
    with (
        fake_strip() as strip,
        serve(Composite(children={"board": socket(strip, slot=1), "hub": socket(strip, slot=4)})) as bench,
    ):
        bench.board.on()
        bench.hub.on()
        bench.board.off()
        assert (bench.board.is_on(), bench.hub.is_on()) == (False, True)


def test_the_end_of_the_exporter_switches_off():
    """No board stays powered when nobody holds it."""
    with fake_strip() as strip:
        with serve(socket(strip)) as client:
            client.on()
        assert strip.states == [False] * 4


def test_faults_arrive_as_what_they_are():
    """A busy strip, a silent one, a wrong password and a strip that is not there: an error with one line each."""
    with fake_strip() as strip, serve(socket(strip, timeout=0.5)) as client:
        with somebody_else(strip), pytest.raises(DriverConnectionError, match="is busy: somebody else"):
            client.on()
        strip.faults["POST /"] = "hang"
        with pytest.raises(DriverTimeout, match="did not answer within 0.5 s"):
            client.on()
        strip.faults.clear()
        strip.password = "other"
        with pytest.raises(OSError, match="refuses the password"):
            client.is_on()
        strip.password = "1"


def test_it_cannot_measure():
    """read() is NotImplementedError at the client, and says what to ask instead."""
    with (
        fake_strip() as strip,
        serve(socket(strip)) as client,
        pytest.raises(DriverNotImplemented, match="cannot measure: is_on"),
    ):
        next(client.read())


def test_commands():
    """`j power on`, `state`, `off` and `cycle` do what the methods do."""
    with fake_strip() as strip, serve(socket(strip)) as client:
        said = [
            CliRunner().invoke(client.cli(), arguments, catch_exceptions=False).output
            for arguments in (["on"], ["state"], ["off"], ["state"], ["cycle", "-w", "0"], ["state"])
        ]
    assert said == ["", "on\n", "", "off\n", "", "on\n"]
