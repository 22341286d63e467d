import json
from collections.abc import AsyncGenerator
from threading import Event

import pytest
from click.testing import CliRunner

from jsnats.common.utils import serve
from jsnats_driver_power.client import SwitchClient, VirtualPowerClient, thin
from jsnats_driver_power.common import PowerReading
from jsnats_driver_power.driver import MockPower, SyncMockPower, VirtualPowerInterface, WithoutMeter


class Machine(VirtualPowerInterface):
    """A virtual device that keeps what it is told."""

    def __post_init__(self):
        super().__post_init__()
        self.told: list[object] = []
        self.stopped = Event()

    async def on(self) -> None:
        self.told.append("on")

    async def off(self, destroy: bool = False) -> None:
        self.told.append("destroy" if destroy else "off")

    async def is_on(self) -> bool:
        return self.told[-1:] == ["on"]

    async def read(self) -> AsyncGenerator[PowerReading, None]:
        try:
            for step in range(1_000_000):
                yield PowerReading(voltage=step, current=0.5)
        finally:
            self.stopped.set()


class Relay(WithoutMeter, Machine):
    """A switch without a meter."""


@pytest.mark.parametrize("cls", [MockPower, SyncMockPower])
def test_power_is_switched_and_measured_over_a_broker(cls):
    """Both mocks answer the one client: on gives inrush, off no current."""
    with serve(cls(interval=0.001)) as client:
        assert isinstance(client, SwitchClient)
        client.on()
        assert client.is_on() is True
        assert next(client.read()).current > 1.0
        client.off()
        assert client.is_on() is False
        assert next(client.read()).current == 0.0


@pytest.mark.parametrize("cls", [MockPower, SyncMockPower])
def test_cycle_ends_switched_on(cls):
    """One call does off, wait and on, on the exporter."""
    power = cls()
    with serve(power) as client:
        client.cycle(0.0)
        assert power._supply.on


def test_cycle_refuses_a_negative_wait():
    """The published schema is checked before anything is switched."""
    machine = Machine()
    with serve(machine) as client:
        with pytest.raises(ValueError, match="wait"):
            client.cycle(-1)
        assert machine.told == []


@pytest.mark.parametrize("cls", [MockPower, SyncMockPower])
def test_the_end_of_the_exporter_switches_off(cls):
    """No board stays powered when nobody holds it."""
    power = cls()
    with serve(power) as client:
        client.on()
        assert power._supply.on
    assert not power._supply.on


def test_readings_are_models():
    """What arrives is a PowerReading with its product."""
    with serve(Machine()) as client:
        readings = client.read()
        assert [next(readings), next(readings)][1] == PowerReading(voltage=1.0, current=0.5)
        assert next(readings).apparent_power == 1.0
        readings.close()


def test_leaving_the_loop_ends_the_generator():
    """A reader that has enough stops the driver's generator."""
    machine = Machine()
    with serve(machine) as client:
        for reading in client.read():
            if reading.voltage == 10:
                break
        del reading
        assert machine.stopped.wait(10)


def test_a_switch_without_a_meter_says_so():
    """NotImplementedError of the driver is NotImplementedError at the client."""
    with serve(Relay()) as client, pytest.raises(NotImplementedError, match="Relay cannot measure"):
        next(client.read())


def test_off_may_destroy_a_virtual_device():
    """VirtualPowerClient passes `destroy` on, as a method and as --destroy."""
    machine = Machine()
    with serve(machine) as client:
        assert isinstance(client, VirtualPowerClient)
        client.off()
        client.off(destroy=True)
        result = CliRunner().invoke(client.cli(), ["off", "--destroy"])
        assert result.exit_code == 0
        assert machine.told == ["off", "destroy", "destroy"]


def test_commands_switch():
    """`j power on`, `off` and `cycle -w 0` do what the methods do."""
    machine = Machine()
    with serve(machine) as client:
        for arguments in (["on"], ["off"], ["cycle", "-w", "0"]):
            result = CliRunner().invoke(client.cli(), arguments, catch_exceptions=False)
            assert result.exit_code == 0
        assert machine.told == ["on", "off", "off", "on"]


def test_state_is_asked_of_the_switch():
    """`j power state` says on or off, with --json true or false."""
    with serve(Machine()) as client:
        said = [CliRunner().invoke(client.cli(), ["state"], catch_exceptions=False).output]
        client.on()
        said += [CliRunner().invoke(client.cli(), ["state", *more]).output for more in ([], ["--json"])]
    assert said == ["off\n", "on\n", "true\n"]


def test_read_shows_as_many_readings_as_asked():
    """`read -n 3` prints three lines with units."""
    with serve(Machine()) as client:
        result = CliRunner().invoke(client.cli(), ["read", "-n", "3"], catch_exceptions=False)
    assert [line.split() for line in result.output.splitlines()] == [
        ["0.000", "V", "0.500", "A", "0.000", "VA"],
        ["1.000", "V", "0.500", "A", "0.500", "VA"],
        ["2.000", "V", "0.500", "A", "1.000", "VA"],
    ]


def test_read_speaks_json():
    """`read --json` prints an object a line."""
    with serve(Machine()) as client:
        result = CliRunner().invoke(client.cli(), ["read", "-n", "2", "--json"], catch_exceptions=False)
    assert json.loads(result.output.splitlines()[1]) == {"voltage": 1.0, "current": 0.5, "apparent_power": 0.5}


def test_interval_drops_what_comes_too_soon():
    """With readings each 0.4 s, `-i 1` shows those at 0, 1.2 and 2.4 s."""
    readings = [PowerReading(voltage=step, current=0) for step in range(8)]
    clock = iter(step * 0.4 for step in range(8)).__next__
    assert [reading.voltage for reading in thin(readings, 1.0, clock)] == [0, 3, 6]
