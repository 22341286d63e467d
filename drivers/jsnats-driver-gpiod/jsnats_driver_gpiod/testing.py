"""GPIO chips without hardware: they stand where libgpiod's `Chip` and `LineRequest` are, with real file descriptors.

`with gpio_chips(FakeChip(label="relays")) as (chip,):` and the drivers find it. `chip.apply(3, True)` is the world
outside, which puts a voltage on line 3; `chip.level(3)` is what a meter shows there.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from types import SimpleNamespace, TracebackType
from typing import Any
from unittest import mock

import gpiod
from gpiod import EdgeEvent, LineSettings
from gpiod.line import Bias, Direction, Drive, Edge, Value

from . import chips

BUFFERED = 16
"""Edges that the kernel keeps for a line that nobody reads."""


@dataclass
class _Wire:
    """A line: `outside` is the voltage that the world puts on it, `driven` the one of the chip, None for nothing.

    `user` is who has it; without a request that is the kernel itself.
    """

    name: str = ""
    user: str = ""
    outside: bool | None = None
    driven: bool | None = None
    settings: LineSettings = field(default_factory=LineSettings)
    request: FakeRequest | None = None

    def level(self) -> bool:
        """The voltage: what drives it, or else the world, or else the resistor."""
        let_go = {Drive.OPEN_DRAIN: True, Drive.OPEN_SOURCE: False}.get(self.settings.drive)
        found = self.outside if self.driven in (None, let_go) else self.driven
        return self.settings.bias is Bias.PULL_UP if found is None else found

    def set_up(self, settings: LineSettings) -> None:
        """Be what a request asks for."""
        self.settings = settings
        if settings.direction is Direction.INPUT:
            self.driven = None
        elif settings.direction is Direction.OUTPUT:
            self.drive(settings.output_value)

    def drive(self, value: Value) -> None:
        """Be driven to a value."""
        self.driven = (value is Value.ACTIVE) is not self.settings.active_low


class FakeChip:
    """A chip with `size` lines; `names` of some by number. Without `interrupts` it cannot tell edges.

    `fault` is an errno that opening raises, as EACCES; a chip that is `gone` was unplugged. `lines[3].user = "spi"`
    gives a line away.
    """

    def __init__(
        self,
        path: str = "/dev/gpiochip0",
        label: str = "fake",
        size: int = 8,
        names: Mapping[int, str] | None = None,
        interrupts: bool = True,
    ) -> None:
        self.path = path
        self.label = label
        self.interrupts = interrupts
        self.fault = 0
        self.gone = False
        self.lock = RLock()
        self.lines = [_Wire((names or {}).get(number, "")) for number in range(size)]

    def apply(self, line: int, high: bool | None) -> None:
        """Put a voltage on a line from outside, or take it off."""
        with self.lock, self.changing(line):
            self.lines[line].outside = high

    def level(self, line: int) -> bool:
        """Return whether the voltage is high."""
        with self.lock:
            return self.lines[line].level()

    def held(self, line: int) -> bool:
        """Return whether somebody holds the line."""
        return self.lines[line].request is not None

    def watched(self, line: int) -> bool:
        """Return whether the kernel looks for edges."""
        return self.held(line) and self.lines[line].settings.edge_detection is Edge.BOTH

    def unplug(self) -> None:
        """Take the chip away: who waits is woken."""
        self.gone = True
        for request in filter(None, (line.request for line in self.lines)):
            os.write(request.pipe[1], b".")

    @contextmanager
    def changing(self, line: int) -> Iterator[None]:
        """Tell the edge that the block made."""
        wire = self.lines[line]
        before = wire.level()
        yield
        if wire.request and wire.level() != before and self.watched(line):
            wire.request.edge(wire.level() is not wire.settings.active_low)


class FakeRequest:
    """What `gpiod.LineRequest` is to the driver, for one line."""

    def __init__(self, chip: FakeChip, number: int) -> None:
        self.pipe = os.pipe()
        self.fd = self.pipe[0]
        self._chip = chip
        self._number = number
        self._wire = chip.lines[number]
        self._seen = 0
        self._edges: list[EdgeEvent] = []

    def get_value(self, line: int) -> Value:
        """As gpiod's."""
        self._check()
        return Value.ACTIVE if self._chip.level(line) is not self._wire.settings.active_low else Value.INACTIVE

    def set_value(self, line: int, value: Value) -> None:
        """As gpiod's: an input refuses."""
        self._check()
        if self._wire.driven is None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        self._wire.drive(value)

    def reconfigure_lines(self, config: Mapping[int, LineSettings]) -> None:
        """As gpiod's."""
        self._check()
        settings = config[self._number]
        if settings.edge_detection is not Edge.NONE and not self._chip.interrupts:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        self._wire.set_up(settings)

    def edge(self, rising: bool) -> None:
        """Keep an edge; the oldest goes when there are too many."""
        self._seen += 1
        kind = (EdgeEvent.Type.RISING_EDGE if rising else EdgeEvent.Type.FALLING_EDGE).value
        self._edges.append(EdgeEvent(kind, time.monotonic_ns(), self._number, self._seen, self._seen))
        if len(self._edges) > BUFFERED:
            del self._edges[0]
        else:
            os.write(self.pipe[1], b".")

    def read_edge_events(self) -> list[EdgeEvent]:
        """As gpiod's."""
        with self._chip.lock:
            self._check()
            found, self._edges = self._edges, []
            os.read(self.fd, len(found))
        return found

    def release(self) -> None:
        """As gpiod's: the line stays what it is."""
        self._wire.request, self._wire.user = None, ""
        for end in self.pipe:
            os.close(end)

    def _check(self) -> None:
        if self._chip.gone:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))


class _OpenChip:
    """What `gpiod.Chip` is to the driver."""

    def __init__(self, chip: FakeChip) -> None:
        self._chip = chip

    def __enter__(self) -> _OpenChip:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def get_info(self) -> Any:
        """As gpiod's."""
        chip = self._chip
        return SimpleNamespace(name=chip.path.rpartition("/")[2], label=chip.label, num_lines=len(chip.lines))

    def get_line_info(self, line: int) -> Any:
        """As gpiod's."""
        wire = self._chip.lines[line]
        direction = Direction.INPUT if wire.driven is None else Direction.OUTPUT
        return SimpleNamespace(name=wire.name, consumer=wire.user, direction=direction)

    def line_offset_from_id(self, line: int | str) -> int:
        """As gpiod's: a name, or a number that may be written as a string."""
        names = [each.name for each in self._chip.lines]
        if isinstance(line, str) and line in names:
            return names.index(line)
        if isinstance(line, str) and not line.isdigit():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if int(line) >= len(names):
            raise ValueError("line offset of out range")
        return int(line)

    def request_lines(self, config: Mapping[int, LineSettings], consumer: str) -> FakeRequest:
        """As gpiod's."""
        ((number, settings),) = config.items()
        wire = self._chip.lines[number]
        if wire.user:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        wire.set_up(settings)
        wire.user, wire.request = consumer, FakeRequest(self._chip, number)
        return wire.request


class SimChip:
    """A chip of the kernel's gpio-sim, whose world is in sysfs. It has a part of what a FakeChip has."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._world = (Path("/sys/bus/gpio/devices") / Path(path).name).resolve()

    def apply(self, line: int, high: bool) -> None:
        """Put a voltage on a line from outside."""
        (self._world / f"sim_gpio{line}" / "pull").write_text("pull-up" if high else "pull-down")

    def level(self, line: int) -> bool:
        """Return whether the voltage is high."""
        return (self._world / f"sim_gpio{line}" / "value").read_text().strip() == "1"

    def held(self, line: int) -> bool:
        """Return whether somebody holds the line."""
        with gpiod.Chip(self.path) as chip:
            return chip.get_line_info(line).used


@contextmanager
def gpio_chips(*there: FakeChip) -> Iterator[tuple[FakeChip, ...]]:
    """Within the block these are the chips of this host."""

    def opened(path: str) -> _OpenChip:
        for chip in there:
            if chip.path == path and not chip.gone:
                if chip.fault:
                    raise OSError(chip.fault, os.strerror(chip.fault), path)
                return _OpenChip(chip)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def paths() -> list[str]:
        return [chip.path for chip in there if not chip.gone]

    with mock.patch.object(gpiod, "Chip", opened), mock.patch.object(chips, "chip_paths", paths):
        yield there
