"""The user's side of power: never imports the driver."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import islice

import click

from jsnats.client import DriverClient

from .common import PowerReading


class PowerClient(DriverClient):
    """Client of every power driver."""

    def on(self) -> None:
        """Switch on."""
        self.call("on")

    def off(self) -> None:
        """Switch off."""
        self.call("off")

    def cycle(self, wait: float = 2.0) -> None:
        """Switch off, wait so many seconds, switch on. It runs on the exporter."""
        self.call("cycle", wait)

    def read(self) -> Generator[PowerReading, None, None]:
        """Yield readings as they are taken, until the loop is left.

        Raises NotImplementedError (as DriverNotImplemented) for a switch that cannot measure.
        """
        with closing(self.streamingcall("read")) as values:
            for value in values:
                yield PowerReading.model_validate(value)

    def cli(self) -> click.Group:
        """Return the commands of `j`."""

        @click.group
        def base() -> None:
            """Switch and measure power."""

        base.command()(self.on)
        base.command()(self.off)

        @base.command()
        @click.option("-w", "--wait", default=2.0, show_default=True, type=click.FloatRange(0), help="Seconds off.")
        def cycle(wait: float) -> None:
            """Switch off, wait, switch on."""
            self.cycle(wait)

        base.add_command(_read_command(self.read))
        return base


class SwitchClient(PowerClient):
    """Client of a switch that can be asked whether it is on."""

    def is_on(self) -> bool:
        """Ask the switch whether it is on. Raises what `on` raises."""
        return bool(self.call("is_on"))

    def cli(self) -> click.Group:
        """Return the commands of `j`: those of power, and `state`."""
        base = super().cli()

        @base.command()
        @click.option("--json", "as_json", is_flag=True, help="true or false.")
        def state(as_json: bool) -> None:
            """Show whether it is on or off."""
            on = self.is_on()
            click.echo(json.dumps(on) if as_json else "on" if on else "off")

        return base


class VirtualPowerClient(SwitchClient):
    """Client of the power of a virtual device."""

    def off(self, destroy: bool = False) -> None:
        """Switch off; with `destroy` the device and what it stored are gone."""
        self.call("off", destroy)

    def cli(self) -> click.Group:
        """Return the commands of `j`: `off` takes --destroy."""
        base = super().cli()

        @base.command()
        @click.option("--destroy", is_flag=True, help="Remove the device and what it stored.")
        def off(destroy: bool) -> None:
            """Switch off."""
            self.off(destroy)

        return base


def thin(
    readings: Iterable[PowerReading], interval_s: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[PowerReading]:
    """Let a reading through when `interval_s` has passed since the last one, and drop those between."""
    due = float("-inf")
    for reading in readings:
        now = clock()
        if now >= due:
            due = now + interval_s
            yield reading


def _read_command(read: Callable[[], Generator[PowerReading, None, None]]) -> click.Command:
    @click.command("read")
    @click.option("-n", "--count", type=click.IntRange(1), help="Stop after so many readings.")
    @click.option("-i", "--interval", default=0.0, type=click.FloatRange(0), help="Seconds between shown readings.")
    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    def command(count: int | None, interval: float, as_json: bool) -> None:
        """Show readings until Ctrl-C."""
        with closing(read()) as readings:
            for reading in islice(thin(readings, interval), count):
                click.echo(_as_json(reading) if as_json else _as_text(reading))

    return command


def _as_text(reading: PowerReading) -> str:
    return f"{reading.voltage:8.3f} V {reading.current:8.3f} A {reading.apparent_power:9.3f} VA"


def _as_json(reading: PowerReading) -> str:
    return json.dumps(reading.model_dump() | {"apparent_power": reading.apparent_power})
