"""The user's side of digital pins: never imports the driver."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import closing
from itertools import islice

import click

from jsnats.client import DriverClient

from .common import Edge


class DigitalInputClient(DriverClient):
    """Client of an input."""

    def read_pin(self) -> bool:
        """Return whether the pin is active."""
        return bool(self.call("read_pin"))

    def wait_for_active(self, timeout: float | None = None) -> None:
        """Return when the pin is active, at once if it is. Raises TimeoutError if it was not within `timeout` s."""
        self.call("wait_for_active", timeout)

    def wait_for_inactive(self, timeout: float | None = None) -> None:
        """Return when the pin is inactive, at once if it is. Raises TimeoutError if it was not within `timeout` s."""
        self.call("wait_for_inactive", timeout)

    def wait_for_edge(self, edge_type: str = "both", timeout: float | None = None) -> Edge:
        """Return the next edge, "rising", "falling" or "both". Raises TimeoutError for none within `timeout` s."""
        return Edge.model_validate(self.call("wait_for_edge", edge_type, timeout))

    def events(self, edge_type: str = "both") -> Generator[Edge, None, None]:
        """Yield edges, "rising", "falling" or "both", as they come, until the loop is left."""
        with closing(self.streamingcall("events", edge_type)) as edges:
            for edge in edges:
                yield Edge.model_validate(edge)

    def cli(self) -> click.Group:
        """Return the commands of `j`."""

        @click.group
        def base() -> None:
            """Look at a digital input."""

        base.add_command(_state_command(self.read_pin))
        base.add_command(_wait_command(self))
        base.add_command(_events_command(self))
        return base


class DigitalOutputClient(DriverClient):
    """Client of an output."""

    def on(self) -> None:
        """Make the pin active."""
        self.call("on")

    def off(self) -> None:
        """Make the pin inactive."""
        self.call("off")

    def read_pin(self) -> bool:
        """Return whether the pin is active; asking does not drive it."""
        return bool(self.call("read_pin"))

    def cli(self) -> click.Group:
        """Return the commands of `j`."""

        @click.group
        def base() -> None:
            """Drive a digital output."""

        base.command()(self.on)
        base.command()(self.off)
        base.add_command(_state_command(self.read_pin))
        return base


def _state_command(read_pin: Callable[[], bool]) -> click.Command:
    @click.command("state")
    @click.option("--json", "as_json", is_flag=True, help="true or false.")
    def command(as_json: bool) -> None:
        """Show whether it is active or inactive."""
        active = read_pin()
        click.echo(json.dumps(active) if as_json else "active" if active else "inactive")

    return command


_EDGES = click.Choice(["rising", "falling", "both"])


def _wait_command(client: DigitalInputClient) -> click.Command:
    @click.command("wait")
    @click.option("--active", "level", flag_value="active", help="For active: at once if it is. The default.")
    @click.option("--inactive", "level", flag_value="inactive", help="For inactive: at once if it is.")
    @click.option("--edge", type=_EDGES, help="For the next change: to active, to inactive or any.")
    @click.option("--timeout", type=click.FloatRange(0), help="Give up after so many seconds, with exit code 1.")
    @click.option("--json", "as_json", is_flag=True, help="Show the edge that came as JSON.")
    def command(level: str | None, edge: str | None, timeout: float | None, as_json: bool) -> None:
        """Wait for a level or a change. Ctrl-C ends it."""
        if edge and level:
            raise click.UsageError(f"--edge waits for a change and --{level} for a level: give one of them")
        if edge:
            _show(client.wait_for_edge(edge, timeout), as_json)
        elif as_json:
            raise click.UsageError("--json shows an edge: it goes with --edge")
        else:
            (client.wait_for_inactive if level == "inactive" else client.wait_for_active)(timeout)

    return command


def _events_command(client: DigitalInputClient) -> click.Command:
    @click.command("events")
    @click.option("-n", "--count", type=click.IntRange(1), help="Stop after so many.")
    @click.option(
        "--edge", type=_EDGES, default="both", show_default=True, help="Changes to active, to inactive or any."
    )
    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    def command(count: int | None, edge: str, as_json: bool) -> None:
        """Show changes as they come, until Ctrl-C."""
        with closing(client.events(edge)) as edges:
            for each in islice(edges, count):
                _show(each, as_json)

    return command


def _show(edge: Edge, as_json: bool) -> None:
    lost = f" ({edge.missed} missed before)" if edge.missed else ""
    click.echo(edge.model_dump_json() if as_json else f"{edge.timestamp:.6f} {edge.type}{lost}")
