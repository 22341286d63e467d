import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest
from pydantic import ValidationError

import jsnats_driver_power
from jsnats.agent import load
from jsnats.common.utils import serve
from jsnats.driver import marker_sink, methods_of, progress_sink
from jsnats_driver_power.common import PowerReading
from jsnats_driver_power.driver import MockPower, PowerInterface, SyncMockPower, VirtualPowerInterface, WithoutMeter


class AsyncRelay(WithoutMeter, PowerInterface):
    """Writes down what it is told."""

    def __post_init__(self):
        super().__post_init__()
        self.told: list[object] = []

    async def on(self) -> None:
        self.told.append("on")

    async def off(self) -> None:
        self.told.append("off")


class SyncRelay(WithoutMeter, PowerInterface):
    """The same with plain functions."""

    def __post_init__(self):
        super().__post_init__()
        self.told: list[object] = []

    def on(self) -> None:
        self.told.append("on")

    def off(self) -> None:
        self.told.append("off")


class Machine(VirtualPowerInterface):
    """A virtual device."""

    def __post_init__(self):
        super().__post_init__()
        self.told: list[object] = []

    async def on(self) -> None:
        self.told.append("on")

    async def off(self, destroy: bool = False) -> None:
        self.told.append("destroy" if destroy else "off")

    async def is_on(self) -> bool:
        return self.told[-1:] == ["on"]

    async def read(self) -> AsyncGenerator[PowerReading, None]:
        yield PowerReading(voltage=1.0, current=2.0)


@pytest.mark.parametrize("cls", [AsyncRelay, SyncRelay])
def test_three_methods_make_a_power_driver(cls):
    """A subclass writes on, off and read without a decorator, and has cycle as well."""
    kinds = {name: method.kind for name, method in methods_of(cls).items()}
    assert kinds == {"on": "call", "off": "call", "read": "stream", "cycle": "call"}
    assert methods_of(cls)["cycle"].record.params["properties"]["wait"]["default"] == 2.0


@pytest.mark.parametrize("cls", [AsyncRelay, SyncRelay])
async def test_cycle_is_off_then_on_with_progress(cls):
    """It switches in order and says how far it is, over async and over plain functions."""
    relay, said = cls(), []
    token = progress_sink.set(lambda done, total, message: said.append((done, total, message)))
    await relay.cycle(0.0)
    progress_sink.reset(token)
    assert relay.told == ["off", "on"]
    assert said == [(0, 2, "switching off"), (1, 2, "off for 0 s"), (2, 2, "on")]


def test_plain_functions_run_on_the_drivers_thread_in_a_cycle_too():
    """A library that is not thread-safe sees one thread, whether a client says off or cycle."""

    class Threaded(SyncRelay):
        def off(self) -> None:
            self.told.append(threading.get_ident())

    relay = Threaded()
    with serve(relay) as client:
        client.off()
        client.cycle(0.0)
    assert len({each for each in relay.told if each != "on"}) == 1
    assert threading.get_ident() not in relay.told


@pytest.mark.parametrize("cls", [AsyncRelay, SyncRelay, MockPower, SyncMockPower])
async def test_switching_on_leaves_a_marker_in_the_consoles(cls):
    """`on` has the marker whatever decorator a driver gives it; cycle leaves it once, when the power comes."""
    assert methods_of(cls)["on"].marker == "power-on"
    assert not methods_of(cls)["cycle"].marker
    told: list[tuple[str, str]] = []
    token = marker_sink.set(lambda marker, where: told.append((marker, where)))
    await cls().cycle(0.0)
    marker_sink.reset(token)
    assert told == [("power-on", "on")]


@pytest.mark.parametrize("cls", [AsyncRelay, SyncRelay])
async def test_the_end_of_a_lease_switches_off(cls):
    """close() is off(), of either kind."""
    relay = cls()
    await relay.close()
    assert relay.told == ["off"]


async def test_a_virtual_device_is_kept_at_the_end_of_a_lease():
    """close() of a virtual device switches off and destroys nothing."""
    machine = Machine()
    await machine.close()
    await machine.off(destroy=True)
    assert machine.told == ["off", "destroy"]


def test_the_interface_cannot_be_made():
    """on, off and read are the driver's to write."""
    with pytest.raises(TypeError, match="abstract"):
        PowerInterface()  # type: ignore[abstract]


async def test_readings_start_with_the_inrush_and_settle():
    """After on the first readings show the charging current, later ones the load's."""
    power = MockPower(voltage=5.0, load=0.5, interval=0.001)
    await power.on()
    async with aclosing(power.read()) as readings:
        first = await anext(readings)
        async for reading in readings:
            if reading.current < 0.8:
                break
    assert first.current > 5.0
    assert 4.0 < reading.voltage < 5.0


def test_the_plain_mock_measures_the_same_way():
    """SyncMockPower yields readings from a plain generator, and no current once it is off."""
    power = SyncMockPower(voltage=5.0, interval=0.001)
    power.on()
    assert next(power.read()).current > 1.0
    power.off()
    assert next(power.read()).current == 0.0


@pytest.mark.parametrize("wrong", [{"voltage": 0}, {"load": -1}, {"interval": 0}, {"volts": 5}])
def test_impossible_parameters_are_refused(wrong):
    """No negative load, no busy loop, no parameter that does not exist."""
    with pytest.raises(ValidationError):
        MockPower(**wrong)


def test_the_example_is_a_valid_exporter():
    """examples/exporter.yaml gives the drivers with the parameters it says."""
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    power = exporter.root.children["power"]
    assert isinstance(power, MockPower)
    assert (power.voltage, power.load, power.interval) == (12.0, 1.5, 0.1)
    assert isinstance(exporter.root.children["usb"], SyncMockPower)


def test_the_package_offers_the_drivers_lazily():
    """`from jsnats_driver_power import MockPower` works, and a name that is not there is an AttributeError."""
    assert jsnats_driver_power.MockPower is MockPower
    with pytest.raises(AttributeError, match="has no attribute 'Nuclear'"):
        _ = jsnats_driver_power.Nuclear


def test_a_client_does_not_load_the_exporter_side():
    """Importing the package and its client leaves the driver and `jsnats.driver` unloaded."""
    code = (
        "import sys, jsnats_driver_power.client as c;"
        "sys.exit('jsnats.driver' in sys.modules or c.__package__ + '.driver' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
