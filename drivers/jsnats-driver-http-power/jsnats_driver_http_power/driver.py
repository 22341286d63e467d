"""The exporter's side: power that is switched and read by HTTP requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, Final, Literal

from pydantic import Field, FilePath
from pydantic.dataclasses import dataclass

from jsnats.driver import export
from jsnats_driver_power.common import PowerReading
from jsnats_driver_power.driver import SwitchInterface

from .config import Auth, ReadRequest, Request, StateRequest, Url
from .exchange import shown, verification
from .http import Answer, Device
from .kinds import Requests, requests_of

POLL_S: Final = 0.25


@dataclass(kw_only=True)
class HttpPower(SwitchInterface):
    """Power of a plug, a PDU or a server with an HTTP interface.

    Either `kind` with the `url` of the device and its `outlet`, or the requests `power_on` and `power_off`, and as the
    device allows `power_state` and `power_read`; with a kind, these replace its own. With a state, switching returns
    when the device says so, at most `settle` s later. `timeout` s are for each request, `interval` s between readings.
    `tls_verify` is false, or the file of the authority that signed the device's certificate.
    """

    kind: Literal["shelly-gen1", "shelly-gen2", "tasmota", "redfish"] | None = None
    url: Url | None = None
    outlet: int | str | None = None
    power_on: Request | None = None
    power_off: Request | None = None
    power_state: StateRequest | None = None
    power_read: ReadRequest | None = None
    auth: Auth | None = None
    tls_verify: bool | FilePath = True
    timeout: float = Field(default=5.0, gt=0, le=600)
    settle: float = Field(default=15.0, ge=0, le=600)
    interval: float = Field(default=1.0, gt=0, le=3600)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._requests = self._all_requests()
        self._device = Device(self.auth, self.timeout, verification(self.tls_verify))

    @export
    async def on(self) -> None:
        """Switch on, and wait until the device says so. Raises TimeoutError, ConnectionError, PermissionError."""
        await self._switch(self._requests.on, True)

    @export
    async def off(self) -> None:
        """Switch off, and wait until the device says so. Raises TimeoutError, ConnectionError, PermissionError."""
        await self._switch(self._requests.off, False)

    @export
    async def is_on(self) -> bool:
        """Return whether the device says that it is on. Raises ConnectionError when it says neither."""
        request = self._requests.state
        if request is None:
            raise NotImplementedError("this switch has no power_state: nothing tells whether it is on")
        value = await self._state(request)
        if value not in (request.is_on, request.is_off):
            raise ConnectionError(f"{shown(request.url)} reports {value!r}, which is neither on nor off")
        return bool(value == request.is_on)

    @export
    async def read(self) -> AsyncGenerator[PowerReading, None]:
        """Yield a reading (V, A) each `interval` until the reader stops."""
        request = self._requests.read
        if request is None:
            raise NotImplementedError("this switch has no power_read: it cannot measure")
        while True:
            answer: Answer = await self.invoke(self._device.send, request)
            yield PowerReading(
                voltage=answer.number(request.voltage_path) * request.voltage_scale,
                current=answer.number(request.current_path) * request.current_scale,
            )
            await asyncio.sleep(self.interval)

    async def close(self) -> None:
        """Switch off when a lease ends, and leave the device."""
        try:
            await super().close()
        finally:
            await self.invoke(self._device.close)

    async def _switch(self, request: Request, on: bool) -> None:
        await self.invoke(self._device.send, request)
        if self._requests.state:
            await self._follow(self._requests.state, on)
        self.logger.info("switched %s", "on" if on else "off")

    async def _follow(self, request: StateRequest, on: bool) -> None:
        """A server or a busy plug switches a while after it has answered."""
        wanted = request.is_on if on else request.is_off
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settle
        while (value := await self._state(request)) != wanted:
            if loop.time() >= deadline:
                raise TimeoutError(f"{shown(request.url)} reports {value!r}, not {wanted!r}, after {self.settle:g} s")
            await asyncio.sleep(POLL_S)

    async def _state(self, request: StateRequest) -> Any:
        answer: Answer = await self.invoke(self._device.send, request)
        return answer.value(request.path)

    def _all_requests(self) -> Requests:
        own = {"on": self.power_on, "off": self.power_off, "state": self.power_state, "read": self.power_read}
        given = {name: request for name, request in own.items() if request is not None}
        if self.kind:
            if not self.url:
                raise ValueError(f"kind {self.kind} needs url: the address of the device")
            outlet = None if self.outlet is None else str(self.outlet)
            return replace(requests_of(self.kind, self.url, outlet), **given)  # type: ignore[arg-type]
        if self.url or self.outlet is not None:
            raise ValueError("url and outlet go with a kind; without one each request has its URL")
        if not self.power_on or not self.power_off:
            raise ValueError("give a kind, or power_on and power_off")
        return Requests(**given)  # type: ignore[arg-type]
