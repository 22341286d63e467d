import asyncio
import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

import jsnats_driver_raspberrypi
from jsnats.agent import load
from jsnats.common.exceptions import DriverConnectionError, DriverOSError
from jsnats.common.utils import serve
from jsnats.testing import until, until_async
from jsnats_driver_gpiod.edges import Edges
from jsnats_driver_power.client import SwitchClient
from jsnats_driver_raspberrypi import pins
from jsnats_driver_raspberrypi.driver import DigitalInput, DigitalOutput, PowerSwitch


def watchers(driver: DigitalInput) -> int:
    """How many calls watch the edges of its pin."""
    return (driver._pin._edges or Edges()).watchers


@pytest.fixture
def mock():
    """gpiozero's mock pins, as new."""
    factory = pins.pin_factory("mock")
    factory.reset()
    return factory


@pytest.mark.parametrize("pin", [17, "17", "GPIO17", "BCM17", "BOARD11", "J8:11"])
def test_a_pin_has_several_names(mock, pin):
    """Those that gpiozero knows."""
    driver = DigitalOutput(pin=pin, pin_factory="mock")
    driver.on()
    assert mock.pin(17).state is True
    driver.close()


def test_an_output_is_an_input_before_and_after(mock):
    """It becomes an output when it is driven first; closing makes it low and an input again."""
    driver = DigitalOutput(pin=17, pin_factory="mock")
    assert driver.read_pin() is False
    assert mock.pin(17).function == "input"
    driver.on()
    assert (mock.pin(17).function, driver.read_pin()) == ("output", True)
    mock.pin(17).clear_states()
    driver.close()
    assert [state.state for state in mock.pin(17).states] == [True, False]
    assert mock.pin(17).function == "input"


def test_a_power_switch(mock):
    """on, off, cycle and is_on are the relay's pin, it does not measure, and the end of the exporter lets go."""
    with serve(PowerSwitch(pin=17, pin_factory="mock", active_low=True)) as client:
        assert isinstance(client, SwitchClient)
        client.on()
        assert (mock.pin(17).state, client.is_on()) == (False, True)
        client.off()
        assert (mock.pin(17).state, client.is_on()) == (True, False)
        client.cycle(0.0)
        assert client.is_on() is True
        with pytest.raises(NotImplementedError, match="is_on"):
            next(client.read())
    assert (mock.pin(17).state, mock.pin(17).function) == (True, "input")


@pytest.mark.parametrize(("bias", "pull"), [("pull_up", "up"), ("pull_down", "down"), ("disabled", "floating")])
def test_the_resistor_says_nothing_about_the_polarity(mock, bias, pull):
    """A pin that is pulled up is active when it is high, unless it is active_low."""
    driver = DigitalInput(pin=17, pin_factory="mock", bias=bias)
    assert driver.read_pin() is (bias == "pull_up")
    assert mock.pin(17).pull == pull
    driver.close()
    driver = DigitalInput(pin=17, pin_factory="mock", bias="pull_up", active_low=True)
    assert driver.read_pin() is False
    driver.close()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"pin": 99}, "this board has no pin 99: give a BCM number as 17, or a name as GPIO17"),
        ({"pin": "LED"}, "this board has no pin LED"),
        ({"pin": 2, "bias": "pull_down"}, "pin 2: .* has a fixed pull resistor"),
    ],
)
def test_what_cannot_be(mock, config, told):
    """A pin that is not there, or has a resistor of its own, is a ValueError of one line."""
    with pytest.raises(ValueError, match=told):
        DigitalInput(pin_factory="mock", **config).read_pin()


def test_a_pin_that_another_driver_has(mock):
    """It is refused until that one releases it."""
    first = DigitalInput(pin=17, pin_factory="mock")
    first.read_pin()
    with serve(DigitalOutput(pin=17, pin_factory="mock")) as client:
        with pytest.raises(DriverOSError, match="pin 17 is in use by another driver"):
            client.on()
        first.close()
        client.on()


def test_a_library_that_fails(mock, monkeypatch):
    """Whatever it raises, callers get OSError with the pin."""

    class LibraryError(Exception):
        pass

    driver = DigitalOutput(pin=17, pin_factory="mock")
    driver.on()
    monkeypatch.setattr(type(mock.pin(17)), "_set_state", lambda *_: (_ for _ in ()).throw(LibraryError("GPIO busy")))
    with pytest.raises(OSError, match="pin 17: GPIO busy"):
        driver.off()
    monkeypatch.undo()
    driver.close()


def test_a_host_that_is_no_pi(monkeypatch):
    """The message is gpiozero's reason."""
    monkeypatch.setitem(sys.modules, "lgpio", None)  # as if it were not installed
    with pytest.raises(OSError, match="gpiozero finds no way to the pins of this host: .*lgpio"):
        DigitalInput(pin=17, pin_factory="lgpio").read_pin()


def test_the_factory_of_the_environment():
    """Without the parameter it is that of GPIOZERO_PIN_FACTORY."""
    code = "from jsnats_driver_raspberrypi.pins import pin_factory; print(type(pin_factory(None)).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"GPIOZERO_PIN_FACTORY": "mock"}
    )
    assert done.stdout.strip() == "MockFactory"


def test_a_pin_that_is_released_under_a_wait(mock):
    """Who waits is told, and the next call takes it again."""
    driver = DigitalInput(pin=17, pin_factory="mock")
    with serve(driver) as client, ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.wait_for_active)
        until(lambda: mock.pin(17).when_changed is not None)
        driver.close()
        assert isinstance(waiting.exception(20), DriverConnectionError)
        waiting = pool.submit(client.wait_for_active)
        until(lambda: mock.pin(17).when_changed is not None)
        mock.pin(17).drive_high()
        waiting.result(20)


async def test_a_wait_that_is_cancelled_leaves_nothing(mock):
    """Its task ends at once, and nobody watches; closing ends what gpiozero tells."""
    driver = DigitalInput(pin=17, pin_factory="mock")
    for wait in (driver.wait_for_active, driver.wait_for_edge, driver.events().__anext__):
        before = asyncio.all_tasks()
        waiting = asyncio.ensure_future(wait())
        await until_async(lambda: watchers(driver) == 1)
        gc.collect()
        assert mock.pin(17).when_changed is not None
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert asyncio.all_tasks() == before
        assert watchers(driver) == 0
    driver.close()
    assert mock.pin(17).when_changed is None


def test_a_pin_that_is_busy_when_it_is_released(mock, monkeypatch):
    """lgpio needs a moment until nobody polls the pin; it is released all the same."""
    driver = DigitalInput(pin=17, pin_factory="mock")
    asyncio.run(_seen(driver))
    stop, tries = type(mock.pin(17))._disable_event_detect, []

    def busy(pin):
        tries.append(pin)
        if len(tries) < 3:
            raise RuntimeError("GPIO busy")
        stop(pin)

    monkeypatch.setattr(type(mock.pin(17)), "_disable_event_detect", busy)
    driver.close()
    assert len(tries) == 3
    assert mock.pin(17).when_changed is None


async def _seen(driver: DigitalInput) -> None:
    with pytest.raises(TimeoutError):
        await driver.wait_for_edge(timeout=0)


@pytest.mark.parametrize(
    ("driver", "wrong", "told"),
    [
        (DigitalInput, {}, "pin"),
        (DigitalInput, {"pin": -1}, "pin"),
        (DigitalInput, {"pin": ""}, "pin"),
        (DigitalInput, {"pin": 17, "bias": "as_is"}, "'pull_up', 'pull_down' or 'disabled'"),
        (DigitalOutput, {"pin": 17, "bias": "pull_up"}, "bias"),
        (PowerSwitch, {"pin": 17, "pin_factory": "gpiod"}, "gpiozero has no pin factory 'gpiod': lgpio, mock, native"),
    ],
)
def test_impossible_parameters_are_refused(driver, wrong, told):
    """Before a pin is touched."""
    with pytest.raises(ValidationError, match=told):
        driver(**wrong)


def test_the_example_is_a_valid_exporter():
    """examples/exporter.yaml gives the drivers with the parameters it says."""
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    power, reset, led = (exporter.root.children[name] for name in ("power", "reset", "led"))
    assert isinstance(power, PowerSwitch)
    assert (power.pin, power.active_low) == (17, True)
    assert isinstance(reset, DigitalOutput)
    assert (reset.pin, reset.pin_factory) == ("J8:15", None)
    assert isinstance(led, DigitalInput)
    assert (led.pin, led.bias) == ("GPIO27", "disabled")


def test_the_package_offers_the_drivers_lazily():
    """`from jsnats_driver_raspberrypi import PowerSwitch` works, and a name that is not there is an AttributeError."""
    assert jsnats_driver_raspberrypi.PowerSwitch is PowerSwitch
    with pytest.raises(AttributeError, match="Nothing"):
        _ = jsnats_driver_raspberrypi.Nothing
