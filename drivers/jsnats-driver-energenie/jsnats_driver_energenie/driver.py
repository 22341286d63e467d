"""The exporter's side of a socket of the strip."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from jsnats.driver import export
from jsnats_driver_power.driver import SwitchInterface, WithoutMeter

from .strip import Strip

Host = Annotated[str, Field(pattern=r"^[^\s/]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Slot = Annotated[int, Field(ge=1, le=4)]
Timeout = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


@dataclass(kw_only=True)
class EnerGenie(WithoutMeter, SwitchInterface):
    """Socket `slot` of the strip at `host`, counted from 1 as on its case.

    `timeout`: seconds for each answer, for a session that somebody else has, and for the socket to follow. The sockets
    of one strip are switched one after the other. All methods raise ConnectionError for a strip that is not there, is
    busy or is none, TimeoutError, and PermissionError for a wrong password.
    """

    host: Host
    password: str = field(default="1", repr=False)
    slot: Slot = 1
    port: Port = 80
    timeout: Timeout = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._strip = Strip(host=self.host, port=self.port, password=self.password, timeout_s=self.timeout)

    @export
    def on(self) -> None:
        """Switch on; returns when the strip shows it."""
        self._switch(True)

    @export
    def off(self) -> None:
        """Switch off; returns when the strip shows it."""
        self._switch(False)

    @export
    def is_on(self) -> bool:
        """Ask the strip whether the socket is on."""
        return self._strip.states()[self.slot - 1]

    def _switch(self, on: bool) -> None:
        self._strip.switch(self.slot, on)
        self.logger.info("socket %d of %s is %s", self.slot, self.host, "on" if on else "off")
