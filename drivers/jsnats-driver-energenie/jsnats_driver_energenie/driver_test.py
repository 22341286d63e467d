import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jsnats.agent import load
from jsnats.driver import methods_of

from . import strip as strip_module
from .driver import EnerGenie
from .testing import FakeStrip, fake_strip, somebody_else


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch):
    """Tries follow each other at once."""
    monkeypatch.setattr(strip_module, "RETRY_S", 0.01)


@pytest.fixture
def strip():
    """A strip with the factory's password."""
    with fake_strip() as strip:
        yield strip


def power(strip: FakeStrip, **parameters: Any) -> EnerGenie:
    """The driver of a socket of that strip."""
    return EnerGenie(host="127.0.0.1", port=strip.port, **{"timeout": 5.0} | parameters)


@pytest.mark.parametrize("slot", [1, 2, 3, 4])
def test_its_own_socket_and_no_other(strip, slot):
    """A socket is switched in one session: log in, switch, look, log out."""
    driver = power(strip, slot=slot)
    driver.on()
    assert strip.states == [each == slot for each in (1, 2, 3, 4)]
    assert strip.asked == ["POST /login.html", "POST /", "GET /energenie.html", "GET /login.html"]
    assert driver.is_on()
    driver.off()
    assert (strip.states, driver.is_on(), strip.session) == ([False] * 4, False, "")


def test_any_password_travels():
    """Signs that mean something in a form too."""
    with fake_strip(password="a&b=c %+") as strip:
        power(strip, password="a&b=c %+").on()
        assert strip.states[0]


def test_a_wrong_password_is_refused(strip):
    """At once, with nothing switched, and the password is in neither the error nor the driver's text."""
    driver = power(strip, password="wrong-one")
    with pytest.raises(PermissionError, match=f"the strip at 127.0.0.1:{strip.port} refuses the password") as raised:
        driver.on()
    assert "wrong-one" not in f"{raised.value} {driver!r} {driver._strip!r}"
    assert strip.asked == ["POST /login.html", "GET /login.html"]


def test_a_busy_strip_is_told_after_several_tries(strip):
    """While somebody else is logged in nothing is switched, and their session is left alone."""
    with somebody_else(strip):
        begin = time.monotonic()
        with pytest.raises(ConnectionError, match="is busy: somebody else is logged in, and it takes one session"):
            power(strip, timeout=0.5).on()
        assert 0.4 < time.monotonic() - begin < 5
        tries = strip.asked[1:]
        assert len(tries) > 1
        assert set(tries) == {"POST /login.html"}
        assert strip.session == "127.0.0.2"
    assert strip.states == [False] * 4


def test_a_strip_that_becomes_free_is_switched(strip):
    """A call that found it busy goes on when the other one logs out."""
    with ThreadPoolExecutor() as threads:
        with somebody_else(strip):
            call = threads.submit(power(strip, timeout=30.0).on)
            assert strip.refused.wait(10)
            assert not call.done()
        call.result(10)
    assert (strip.states[0], strip.session) == (True, "")


def test_sockets_of_one_strip_take_turns(strip):
    """Four drivers at once, in four threads, never share a session, which the first log-out would end for all."""
    drivers = [power(strip, slot=slot) for slot in (1, 2, 3, 4)]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            list(threads.map(EnerGenie.off, drivers))
            list(threads.map(EnerGenie.on, drivers))
    assert (strip.states, strip.overlaps, strip.session) == ([True] * 4, 0, "")
    assert strip.asked == ["POST /login.html", "POST /", "GET /energenie.html", "GET /login.html"] * 40


@pytest.mark.parametrize("when", ["POST /", "GET /energenie.html"])
def test_a_session_that_ends_too_early_is_begun_again(strip, when):
    """Another program of this host has logged out: the call logs in once more and is done."""
    strip.faults[when] = "log in"
    driver = power(strip)
    driver.on()
    assert (strip.states[0], driver.is_on(), strip.session) == (True, True, "")
    assert strip.asked.count("POST /login.html") == 3


def test_pages_that_lag_behind_are_looked_at_again(strip):
    """on() returns when the strip shows the new state, not when it has taken the request."""
    strip.stale = 4
    driver = power(strip)
    driver.on()
    assert strip.stale == 0
    assert driver.is_on()


def test_a_socket_that_does_not_follow(strip):
    """A strip that takes the request and switches nothing is a TimeoutError, and is logged out."""
    strip.stuck = True
    with pytest.raises(TimeoutError, match=r"shows socket 2 off, 0.5 s after it was told on"):
        power(strip, slot=2, timeout=0.5).on()
    assert strip.session == ""


FAULTS = {
    "hang": (TimeoutError, "did not answer within 0.5 s"),
    "trickle": (TimeoutError, "did not answer within 0.5 s"),
    "garbage": (ConnectionError, "does not speak HTTP"),
    "drop": (ConnectionError, "cannot speak with the strip at .*: Remote end closed"),
    "error": (ConnectionError, "answers 500 Internal Server Error to"),
    "endless": (ConnectionError, "a page of more than 262144 bytes"),
}


@pytest.mark.parametrize("when", ["POST /login.html", "POST /", "GET /energenie.html"])
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_goes_wrong_is_raised_and_the_session_ended(strip, fault, when):
    """A fault in any request of a session is an error in one line, soon, and the strip is logged out after it."""
    kind, told = FAULTS[fault]
    strip.faults[when] = fault
    with pytest.raises(kind, match=told) as raised:
        power(strip, timeout=0.5 if kind is TimeoutError else 5.0).on()
    assert "\n" not in str(raised.value)
    assert strip.asked[-1] == "GET /login.html"
    assert strip.session == ""


@pytest.mark.parametrize("when", ["POST /login.html", "GET /energenie.html"])
def test_something_else_at_that_address(strip, when):
    """A web server that is no strip is told with the words of its page; before the log-in, nothing is switched."""
    strip.faults[when] = "other page"
    with pytest.raises(ConnectionError, match="a page without the states of sockets: 'It works!'"):
        power(strip).on()
    assert ("POST /" in strip.asked) is (when != "POST /login.html")
    assert strip.session == ""


def test_a_log_out_that_fails_is_an_error_of_its_own(strip):
    """The session may still stand, and the next one would find the strip busy."""
    strip.faults["GET /login.html"] = "error"
    with pytest.raises(ConnectionError, match="answers 500 Internal Server Error to GET /login.html"):
        power(strip).is_on()


def test_the_first_error_is_the_one_that_is_told(strip):
    """When the log-out after an error fails too."""
    strip.faults |= {"POST /": "garbage", "GET /login.html": "error"}
    with pytest.raises(ConnectionError, match="does not speak HTTP"):
        power(strip).on()


def test_no_strip_there():
    """A refused connection and a name that nobody knows are told with the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionError, match=f"cannot speak with the strip at 127.0.0.1:{port}: Connection refused"):
        EnerGenie(host="127.0.0.1", port=port).on()
    with pytest.raises(ConnectionError, match="cannot speak with the strip at strip.invalid:80: "):
        EnerGenie(host="strip.invalid").is_on()


async def test_the_end_of_a_lease_switches_off(strip):
    """close() is off(), as often as it is called; reset() leaves everything alone."""
    driver = power(strip)
    driver.on()
    for _ in range(2):
        await driver.close()
        assert strip.states == [False] * 4
    asked = len(strip.asked)
    for _ in range(2):
        driver.reset()
    assert len(strip.asked) == asked


def test_it_cannot_measure():
    """read() raises before it is iterated, and touches no strip."""
    with pytest.raises(NotImplementedError, match="cannot measure"):
        EnerGenie(host="strip.invalid").read()


def test_what_is_exported():
    """The methods of all power drivers, and is_on."""
    kinds = {name: method.kind for name, method in methods_of(EnerGenie).items()}
    assert kinds == {"on": "call", "off": "call", "cycle": "call", "read": "stream", "is_on": "call"}
    assert methods_of(EnerGenie)["on"].marker == "power-on"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({}, "host"),
        ({"host": ""}, "host"),
        ({"host": "http://10.0.0.1"}, "host"),
        ({"host": "a", "slot": 0}, "greater than or equal to 1"),
        ({"host": "a", "slot": 5}, "less than or equal to 4"),
        ({"host": "a", "password": 1}, "valid string"),
        ({"host": "a", "port": 0}, "greater than or equal to 1"),
        ({"host": "a", "timeout": 0}, "greater than 0"),
        ({"host": "a", "socket": 1}, "socket"),
    ],
)
def test_impossible_parameters_are_refused(wrong, told):
    """When the driver is made, before any strip is asked."""
    with pytest.raises(ValidationError, match=told):
        EnerGenie(**wrong)


def test_the_example_is_a_valid_exporter():
    """examples/exporter.yaml gives the drivers with the parameters it says."""
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    made = [
        (each.host, each.password, each.slot, each.port, each.timeout)
        for each in exporter.root.children.values()
        if isinstance(each, EnerGenie)
    ]
    assert made == [("192.168.0.254", "1", 1, 80, 10.0), ("192.168.0.254", "1", 2, 8080, 20.0)]
