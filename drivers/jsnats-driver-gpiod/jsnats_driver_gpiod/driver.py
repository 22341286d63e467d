"""The exporter's side: lines of a GPIO chip of this host."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, Literal

from gpiod import line
from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from jsnats.driver import Driver

from .edges import Watcher
from .interface import DigitalInputInterface, Driven, PinOutput, PinSwitch
from .line import InputLine, OutputLine

# As YAML writes them: an `on` without quotes is true.
_SAME: Final[dict[Any, str]] = {"on": "active", True: "active", "off": "inactive", False: "inactive"}


def _value(given: Any) -> Any:
    return _SAME.get(given, given) if isinstance(given, (str, bool)) else given


Value = Annotated[Literal["active", "inactive", "preserve"], BeforeValidator(_value)]


@dataclass(kw_only=True)
class _OnChip(Driver):
    """Parameters of all: the `line`, by number or name, of the chip `device`, by path, name or label.

    With `active_low` a low voltage is active. `bias` is the resistor inside the chip.
    """

    line: Annotated[int, Field(ge=0, lt=1 << 32)] | Annotated[str, Field(min_length=1)]
    device: Annotated[str, Field(min_length=1)] = "/dev/gpiochip0"
    active_low: bool = False
    bias: Literal["as_is", "pull_up", "pull_down", "disabled"] = "as_is"


@dataclass(kw_only=True)
class _OnLine(_OnChip, Driven):
    """Parameters of outputs: `drive` says which of the two voltages it makes itself.

    `initial_value` is what a line is made when a lease begins, `preserve` for what it is already.
    """

    drive: Literal["push_pull", "open_drain", "open_source"] = "push_pull"
    initial_value: Value = "preserve"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._pin = self._line = OutputLine(
            self.device,
            self.line,
            active_low=self.active_low,
            bias=line.Bias[self.bias.upper()],
            drive=line.Drive[self.drive.upper()],
        )

    async def reset(self) -> None:
        """Make the line what a lease begins with."""
        if self.initial_value != "preserve":
            await self.invoke(self._drive, self.initial_value == "active")


@dataclass(kw_only=True)
class DigitalOutput(_OnLine, PinOutput):
    """An output: a button, a strap, a lamp. It is left as it is until it is driven first, or by `initial_value`.

    The end of a lease makes it what `initial_value` says, or inactive, and releases the line.
    """

    def close(self) -> None:
        """Leave an output, whoever made it one, as a lease begins, and release the line."""
        try:
            if self._line.is_output():
                self._drive(self.initial_value == "active")
        finally:
            self._line.release()


@dataclass(kw_only=True)
class PowerSwitch(_OnLine, PinSwitch):
    """A relay at a line: active is on. The end of a lease switches off and releases the line."""


@dataclass(kw_only=True)
class DigitalInput(_OnChip, DigitalInputInterface):
    """An input: a button, a lamp that is watched. It is held from its first use to the end of the lease."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._line = InputLine(self.device, self.line, active_low=self.active_low, bias=line.Bias[self.bias.upper()])

    @property
    def pin_name(self) -> str:
        """What messages call it."""
        return self._line.name

    @asynccontextmanager
    async def watch(self) -> AsyncGenerator[Watcher, None]:
        """The edges of the line from here on."""
        since = time.monotonic()
        edges = await self.invoke(self._line.edges, asyncio.get_running_loop())
        with edges.watch(since) as watcher:
            yield watcher

    def read_pin(self) -> bool:
        """Return whether the line is active. Raises OSError when somebody else has it."""
        return self._line.active()

    def close(self) -> None:
        """Release the line."""
        self._line.release()
