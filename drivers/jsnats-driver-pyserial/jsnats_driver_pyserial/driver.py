"""The exporter's side: a serial console, read from the agent's start to its stop."""

from __future__ import annotations

import errno
import os
from typing import Annotated, Any
from urllib.parse import urlsplit

import anyio.to_thread
from anyio.abc import ByteStream
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from jsnats.common.exceptions import DriverConnectionError
from jsnats.driver import Console, export

from .port import Paced, TerminalStream, ThreadStream, open_socket

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
        """Assert or drop DTR."""
        await self._set_line("dtr", on)

    @export
    async def set_rts(self, on: bool) -> None:
        """Assert or drop RTS."""
        await self._set_line("rts", on)

    async def _set_line(self, name: str, on: bool) -> None:
        if self.url.startswith("socket://"):
            raise OSError(f"{self.url} carries no {name.upper()}: use rfc2217:// if the server speaks it")
        if self._port is None or not self._port.is_open:
            raise DriverConnectionError(f"{self.url} is not open")
        try:
            await anyio.to_thread.run_sync(setattr, self._port, name, on)
        except OSError as error:
            if error.errno not in _NO_LINE:
                raise
            raise OSError(f"{self.url} has no {name.upper()} line: is it a pty?") from error
