"""A line of a chip: taken at its first use and held, so that nobody else can, until it is released.

Its methods are called on the driver's thread, since a chip behind I2C or USB takes its time; but for `edges`, which are
read on the loop. The kernel keeps the last 16 edges of a line for us, with their time.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from gpiod import EdgeEvent, LineInfo, LineRequest, LineSettings
from gpiod.line import Clock, Direction, Edge, Value

from .chips import line_offset, open_chip
from .edges import Edges


class Line:
    """Line `line` (number or name) of the chip `device` (path, name or label), with the settings of libgpiod."""

    def __init__(self, device: str, line: int | str, idle: LineSettings) -> None:
        self.name = f"line {line} of {device}"
        self._device = device
        self._line = line
        self._idle = idle
        self._offset = 0
        self._request: LineRequest | None = None

    def active(self) -> bool:
        """Return whether it is active. Raises as `taken`."""
        with self.taken() as request:
            return request.get_value(self._offset) is Value.ACTIVE

    def release(self) -> None:
        """Let go of it, if it is held. What it does then is the chip's business."""
        if request := self._request:
            self._request = None
            request.release()

    @contextmanager
    def taken(self) -> Iterator[LineRequest]:
        """The held line, for a request to the kernel; takes it if need be.

        Raises OSError when somebody else holds it, ConnectionError when its chip was unplugged, ValueError for settings
        that the kernel refuses, and what `open_chip` and `line_offset` raise.
        """
        self._request = self._request or self._take()
        try:
            yield self._request
        except ValueError as error:  # libgpiod's for EINVAL
            raise ValueError(f"{self.name}: the kernel refuses its settings") from error
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise OSError(f"{self.name}: {error.strerror}") from error
            with suppress(OSError):
                self.release()
            raise ConnectionError(f"{self.name}: the chip is gone") from error

    def info(self) -> LineInfo:
        """What the kernel knows about it, whoever holds it. Raises as `open_chip` and `line_offset`."""
        with open_chip(self._device) as chip:
            return chip.get_line_info(line_offset(chip, self._line))

    def _take(self) -> LineRequest:
        with open_chip(self._device) as chip:
            self._offset = line_offset(chip, self._line)
            try:
                return chip.request_lines({self._offset: self._idle}, consumer="jsnats")
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise OSError(f"{self.name} cannot be taken: {error.strerror}") from error
                consumer = chip.get_line_info(self._offset).consumer or "the kernel"
                raise OSError(f"{self.name} is in use by {consumer!r}") from error


class OutputLine(Line):
    """A line that is left as it is until it is driven."""

    def __init__(self, device: str, line: int | str, *, active_low: bool, **settings: Any) -> None:
        super().__init__(device, line, LineSettings(active_low=active_low))
        self._output = {"direction": Direction.OUTPUT, "active_low": active_low, **settings}
        self._driven = False

    def drive(self, active: bool) -> None:
        """Make it an output at this level, without a moment at the other. Raises as `taken`."""
        value = Value.ACTIVE if active else Value.INACTIVE
        with self.taken() as request:
            if self._driven:
                request.set_value(self._offset, value)
            else:
                request.reconfigure_lines({self._offset: LineSettings(output_value=value, **self._output)})
                self._driven = True

    def is_output(self) -> bool:
        """Return whether it is one, be it from an agent that has died since. Raises as `info`."""
        return self._driven or self.info().direction is Direction.OUTPUT

    def release(self) -> None:
        """Let go of it, if it is held."""
        self._driven = False
        super().release()


class InputLine(Line):
    """A line that is an input while it is held."""

    def __init__(self, device: str, line: int | str, **settings: Any) -> None:
        self._input = {"direction": Direction.INPUT, **settings}
        super().__init__(device, line, LineSettings(**self._input))
        self._edges: LineEdges | None = None

    def edges(self, loop: asyncio.AbstractEventLoop) -> LineEdges:
        """Its edges, to be watched on the loop; the kernel looks for them from the first call on.

        Raises as `taken`, and NotImplementedError if the chip has no interrupts.
        """
        if self._edges and self._edges.error:
            self.release()
        with self.taken() as request:
            if self._edges is None:
                self._detect(request)
                self._edges = LineEdges(request, self.name, loop)
        return self._edges

    def release(self) -> None:
        """Let go of it, if it is held. Who still watches gets ConnectionError."""
        if self._edges:
            self._edges.release()
            self._edges = self._request = None
        super().release()

    def _detect(self, request: LineRequest) -> None:
        settings = LineSettings(edge_detection=Edge.BOTH, event_clock=Clock.MONOTONIC, **self._input)
        try:
            request.reconfigure_lines({self._offset: settings})
        except (OSError, ValueError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno != errno.ENXIO:
                raise
            raise NotImplementedError(f"{self.name} has no interrupt: it can be read, but not waited for") from error


class LineEdges(Edges):
    """Reads the edges of a line from the kernel while somebody watches.

    The request is shared with the driver's thread, as far as libgpiod goes: reading edges has a buffer of its own.
    """

    def __init__(self, request: LineRequest, name: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._request = request
        self._name = name
        self._loop = loop
        self._fd = request.fd

    def begin(self) -> None:
        """Read when there are some; those that the kernel has kept come first."""
        self._loop.add_reader(self._fd, self._read)

    def end(self) -> None:
        """Let the kernel keep them."""
        self._loop.remove_reader(self._fd)

    def release(self) -> None:
        """From the driver's thread: release the line, when the loop has let go of its file."""
        with suppress(RuntimeError):  # the loop is closed, and the line with its process
            self._loop.call_soon_threadsafe(self._release)

    def _read(self) -> None:
        try:
            found = self._request.read_edge_events()
        except OSError:
            self._lose()
            return
        for event in found:
            rising = event.event_type is EdgeEvent.Type.RISING_EDGE
            self.put(event.line_seqno, "rising" if rising else "falling", event.timestamp_ns / 1e9)

    def _release(self) -> None:
        self._lose()
        self._request.release()

    def _lose(self) -> None:
        if not self.error:
            self.end()
            self.fail(ConnectionError(f"{self._name} is lost: it was released, or its chip is gone"))
