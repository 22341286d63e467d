"""What is asked of every driver of digital pins, as tests: a driver's own tests subclass `DigitalContract`.

They have a fixture `bench`, which is a `Bench`: the driver, and the world at the other end of the wire.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Any, Protocol

import pytest
from click.testing import CliRunner

from jsnats.common.exceptions import DeadlineExceeded, DriverTimeout, JsnatsError
from jsnats.common.utils import serve
from jsnats.testing import until

from .client import DigitalInputClient, DigitalOutputClient
from .interface import DigitalInputInterface, DigitalOutputInterface


class Bench(Protocol):
    """A pin for input and one for output, and what is at their other ends."""

    def input(self, active_low: bool = False) -> DigitalInputInterface:
        """Make the driver of the input."""

    def output(self, active_low: bool = False) -> DigitalOutputInterface:
        """Make the driver of the output."""

    def apply(self, high: bool) -> None:
        """Put a voltage on the input."""

    def watchers(self) -> int:
        """Return how many calls watch the input."""

    def level(self) -> bool:
        """Return whether the output has the high voltage."""

    def is_free(self) -> bool:
        """Return whether nobody holds either."""


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for calls that wait."""
    with ThreadPoolExecutor() as threads:
        yield threads


class DigitalContract:
    """The tests."""

    def test_an_input_is_what_the_world_makes_it(self, bench: Bench) -> None:
        """read_pin follows the voltage."""
        bench.apply(False)
        with serve(bench.input()) as client:
            assert isinstance(client, DigitalInputClient)
            for high in (False, True, False):
                bench.apply(high)
                assert client.read_pin() is high

    def test_active_low(self, bench: Bench) -> None:
        """A low voltage is active, and becoming low is a rising edge."""
        bench.apply(True)
        with serve(bench.input(active_low=True)) as client, closing(client.events()) as edges:
            assert client.read_pin() is False
            with ThreadPoolExecutor() as threads:
                first = threads.submit(next, edges)
                until(lambda: bench.watchers() == 1)
                bench.apply(False)
                assert first.result(20).type == "rising"
            assert client.read_pin() is True

    def test_a_wait_for_what_is_so_already(self, bench: Bench) -> None:
        """It returns at once, with a timeout of 0 too."""
        bench.apply(True)
        with serve(bench.input()) as client:
            client.wait_for_active(0)
            bench.apply(False)
            client.wait_for_inactive(0)

    def test_a_wait_for_what_comes(self, bench: Bench, pool: ThreadPoolExecutor) -> None:
        """It returns when the voltage changes, and other calls are answered meanwhile."""
        bench.apply(False)
        with serve(bench.input()) as client:
            waiting = pool.submit(client.wait_for_active, 30)
            until(lambda: bench.watchers() == 1)
            assert client.read_pin() is False
            assert not waiting.done()
            bench.apply(True)
            waiting.result(20)
            waiting = pool.submit(client.wait_for_inactive)
            until(lambda: bench.watchers() == 1)
            bench.apply(False)
            waiting.result(20)

    def test_a_wait_in_vain(self, bench: Bench) -> None:
        """It is a TimeoutError that says what did not come, and where."""
        bench.apply(False)
        with serve(bench.input()) as client:
            for wait, given, told in (
                (client.wait_for_active, [0.05], "not active within 0.05 s"),
                (client.wait_for_edge, ["both", 0.05], "no edge within 0.05 s"),
                (client.wait_for_edge, ["falling", 0], "no falling edge within 0 s"),
            ):
                with pytest.raises(DriverTimeout, match=told):
                    wait(*given)

    def test_the_next_edge(self, bench: Bench, pool: ThreadPoolExecutor) -> None:
        """wait_for_edge takes no edge that was before it, and says when it was by the host's clock."""
        bench.apply(False)
        with serve(bench.input()) as client:
            with pytest.raises(DriverTimeout):
                client.wait_for_edge(timeout=0)
            bench.apply(True)
            bench.apply(False)
            begin = time.time()
            waiting = pool.submit(client.wait_for_edge, "rising", 30)
            until(lambda: bench.watchers() == 1)
            bench.apply(True)
            edge = waiting.result(20)
        assert (edge.type, edge.missed) == ("rising", 0)
        assert begin - 0.01 < edge.timestamp < time.time() + 0.01

    def test_edges_are_a_stream(self, bench: Bench, pool: ThreadPoolExecutor) -> None:
        """All who watch get each edge once, in order; with a type, those of it."""
        bench.apply(False)
        with (
            serve(bench.input()) as client,
            closing(client.events()) as edges,
            closing(client.events("falling")) as falls,
        ):
            first = pool.submit(next, edges)
            until(lambda: bench.watchers() == 1)
            bench.apply(True)
            assert first.result(20).type == "rising"
            fall = pool.submit(next, falls)
            until(lambda: bench.watchers() == 2)
            for high in (False, True, False):
                bench.apply(high)
            found = list(islice(edges, 3))
            assert [edge.type for edge in found] == ["falling", "rising", "falling"]
            assert [edge.missed for edge in found] == [0, 0, 0]
            assert found[0].timestamp < found[1].timestamp < found[2].timestamp
            assert [fall.result(20).type, next(falls).type] == ["falling", "falling"]

    def test_a_caller_that_gives_up(self, bench: Bench) -> None:
        """Its wait ends with it, and the next one is served."""
        bench.apply(False)
        with serve(bench.input()) as client:
            for _ in range(3):
                with pytest.raises(DeadlineExceeded):
                    client.options(timeout_s=0.2).wait_for_active()
            bench.apply(True)
            client.wait_for_active(20)

    def test_the_end_of_the_exporter_ends_a_wait(self, bench: Bench, pool: ThreadPoolExecutor) -> None:
        """Its caller is told, and the pin is free for others."""
        bench.apply(False)
        with serve(bench.input()) as client:
            waiting: Future[Any] = pool.submit(client.wait_for_active)
            until(lambda: bench.watchers() == 1)
        error = waiting.exception(20)
        assert isinstance(error, JsnatsError), repr(error)
        until(bench.is_free)

    def test_an_output(self, bench: Bench) -> None:
        """It is left as it is until it is driven, and made inactive and free in the end."""
        before = bench.level()
        with serve(bench.output()) as client:
            assert isinstance(client, DigitalOutputClient)
            assert client.read_pin() is before
            assert bench.level() is before
            client.on()
            assert (bench.level(), client.read_pin()) == (True, True)
            client.off()
            assert (bench.level(), client.read_pin()) == (False, False)
            client.on()
        assert bench.level() is False
        assert bench.is_free()

    def test_an_output_that_is_active_low(self, bench: Bench) -> None:
        """on makes it low."""
        with serve(bench.output(active_low=True)) as client:
            for command, high in ((client.on, False), (client.off, True), (client.on, False)):
                command()
                assert (bench.level(), client.read_pin()) == (high, not high)

    def test_commands_of_an_output(self, bench: Bench) -> None:
        """`j led on`, `off` and `state` do what the methods do."""
        with serve(bench.output()) as client:
            said = [_said(client, command) for command in ("on", "state", "state --json", "off", "state")]
        assert said == ["", "active", "true", "", "inactive"]

    def test_commands_of_an_input(self, bench: Bench, pool: ThreadPoolExecutor) -> None:
        """`j button state`, `wait` and `events` do what the methods do."""
        bench.apply(True)
        with serve(bench.input()) as client:
            assert _said(client, "state") == "active"
            assert _said(client, "wait") == ""
            assert _said(client, "wait --active --timeout 5") == ""
            assert CliRunner().invoke(client.cli(), ["wait", "--active", "--edge", "both"]).exit_code == 2
            with pytest.raises(DriverTimeout, match="not inactive within 0.05 s"):
                _said(client, "wait --inactive --timeout 0.05")
            with pytest.raises(DriverTimeout, match="no falling edge within 0 s"):
                _said(client, "wait --edge falling --timeout 0 --json")
            shown = pool.submit(_said, client, "events -n 2 --json")
            until(lambda: bench.watchers() == 1)
            bench.apply(False)
            bench.apply(True)
            lines = [json.loads(line) for line in shown.result(20).splitlines()]
            found = [(line["type"], line["missed"]) for line in lines]
            assert found == [("falling", 0), ("rising", 0)], found
            until(lambda: bench.watchers() == 0)
            text = pool.submit(_said, client, "wait --edge both --timeout 20")
            until(lambda: bench.watchers() == 1)
            bench.apply(False)
            assert re.fullmatch(r"\d+\.\d{6} falling", text.result(20))


def _said(client: Any, command: str) -> str:
    result = CliRunner().invoke(client.cli(), command.split(), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output.strip()
