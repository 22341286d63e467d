"""The exporter's side: a port of a hub, or all of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from jsnats.driver import export
from jsnats_driver_power.driver import SwitchInterface, WithoutMeter

from .hub import connected


def _word(value: Any) -> Any:
    """In YAML, `on` and `off` without quotes are true and false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


@dataclass(kw_only=True)
class Ykush(WithoutMeter, SwitchInterface):
    """Port `port` of a YKUSH, YKUSH3 or YKUSH XS, or `all` of them. `serial` is its serial number, or the USB port that
    the hub is plugged into.

    `default` is what the port is when nobody has a lease: `on`, `off`, or `keep` for as it was left. Methods raise
    ConnectionError for a hub that is not there or goes away, ValueError for several hubs to choose from or a port that
    it does not have, PermissionError (as DriverOSError), TimeoutError for one that does not answer, OSError for one
    that refuses or does not follow.
    """

    serial: Annotated[str | None, Field(min_length=1)] = None
    default: Annotated[Literal["on", "off", "keep"], BeforeValidator(_word)] = "off"
    port: Annotated[Literal["1", "2", "3", "all"], BeforeValidator(str)] = "all"

    @export
    def on(self) -> None:
        """Switch on, and see it on."""
        self._switch(True)

    @export
    def off(self) -> None:
        """Switch off, and see it off."""
        self._switch(False)

    @export
    def is_on(self) -> bool:
        """Ask the hub whether the port is on. Raises ValueError when some of `all` are on and some off."""
        with connected(self.serial) as hub:
            states = {number: hub.is_on(number) for number in hub.numbers(self.port)}
        if len(set(states.values())) > 1:
            on = ", ".join(str(number) for number, state in states.items() if state)
            raise ValueError(f"of the ports of {hub.what}, on is only {on}: neither on nor off")
        return all(states.values())

    async def reset(self) -> None:
        """Begin a lease with the default."""
        await self._leave()

    async def close(self) -> None:
        """End a lease with the default: off, if nothing else was said."""
        await self._leave()

    async def _leave(self) -> None:
        if self.default != "keep":
            await self.invoke(self.on if self.default == "on" else self.off)

    def _switch(self, on: bool) -> None:
        with connected(self.serial) as hub:
            hub.switch(self.port, on)
        self.logger.info("port %s of %s is %s", self.port, hub.what, "on" if on else "off")
