"""The exporter's side: a serial console, read from the agent's start to its stop."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import anyio.to_thread
from anyio.abc import ByteStream
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from jsnats.common.exceptions import DriverConnectionError
from jsnats.driver import Console, export

from .common import ModemLines
from .port import Paced, TerminalStream, ThreadStream, open_socket

_T = TypeVar("_T")
_SCHEMES = ("loop", "rfc2217", "socket")
_NO_LINE = (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP)


def _known(url: str) -> str:
    scheme, found, _ = url.partition("://")
    if found and scheme not in _SCHEMES:
        raise ValueError(f"{url!r} is no serial port: give a path, or {', '.join(each + '://' for each in _SCHEMES)}")
    if found and scheme != "loop" and not (urlsplit(url).hostname and urlsplit(url).port):
        raise ValueError(f"{url!r} lacks a host or a port: {scheme}://host:port")
    return url


@dataclass(kw_only=True)
class PySerial(Console):
    """A serial console.

    `url` is a path (`/dev/serial/by-id/...`, a pty), `rfc2217://host:port`, `socket://host:port` or `loop://`. `cps`
    paces what is written, in characters a second. With `check_present` the agent does not start while there is no such
    path; without it the console waits for the device. `disable_hupcl` keeps DTR as it is when the port is closed, for
    boards that DTR resets.
    """

    url: Annotated[str, AfterValidator(_known)]
    baudrate: int = Field(default=115200, gt=0)
    check_present: bool = True
    cps: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    disable_hupcl: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._port: Any = None

    @classmethod
    def client(cls) -> str:
        """Return the client of serial consoles."""
        return "jsnats_driver_pyserial.client.PySerialClient"

    async def start(self) -> None:
        """Begin to read. Raises FileNotFoundError when the device is not there and has to be."""
        if self.check_present and "://" not in self.url and not os.path.exists(self.url):  # noqa: ASYNC240 - no disk
            raise FileNotFoundError(f"{self.url} is not there: plug it in, or set check_present: false to wait for it")
        await super().start()

    async def open(self) -> ByteStream:
        """Open the port, as often as it was lost."""
        stream = await self._open()
        self._port = getattr(stream, "port", None)
        return Paced(stream, self.cps) if self.cps else stream

    async def _open(self) -> ByteStream:
        if self.url.startswith("socket://"):
            return await open_socket(self.url)
        if "://" in self.url:
            return await ThreadStream.open(self.url, self.baudrate)
        return await TerminalStream.open(self.url, self.baudrate, keep_dtr=self.disable_hupcl)

    @export
    async def set_dtr(self, on: bool) -> None:
        """Assert or drop DTR. Raises OSError for a port without that line."""
        await self._on_port("DTR line", setattr, "dtr", on)

    @export
    async def set_rts(self, on: bool) -> None:
        """Assert or drop RTS. Raises OSError for a port without that line."""
        await self._on_port("RTS line", setattr, "rts", on)

    @export
    async def modem_lines(self) -> ModemLines:
        """Return the modem lines. Raises OSError for a port without them, or a server that does not tell them."""
        return await self._on_port("modem lines", _lines)

    @export
    async def send_break(self, duration: Annotated[float, Field(gt=0, le=60)] = 0.25) -> None:
        """Hold the line in the break condition for so many seconds, as SysRq and some boot ROMs want it."""
        try:
            await self._on_port("break", setattr, "break_condition", True)
            await anyio.sleep(duration)
        finally:
            with anyio.CancelScope(shield=True):
                await self._on_port("break", setattr, "break_condition", False)

    async def _on_port(self, what: str, do: Callable[..., _T], *arguments: object) -> _T:
        """Call `do` with the port, on a thread."""
        if self.url.startswith("socket://"):
            raise OSError(f"{self.url} carries no {what}: use rfc2217:// if the server speaks it")
        if self._port is None or not self._port.is_open:
            raise DriverConnectionError(f"{self.url} is not open: {self._reason}")
        try:
            return await anyio.to_thread.run_sync(do, self._port, *arguments)
        except OSError as error:
            if error.errno not in _NO_LINE:
                raise
            raise OSError(f"{self.url} has no {what}: is it a pty?") from error


def _lines(port: Any) -> ModemLines:
    return ModemLines(dtr=port.dtr, rts=port.rts, cts=port.cts, dsr=port.dsr, ri=port.ri, cd=port.cd)
