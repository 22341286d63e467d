"""The user's side of a serial console: never imports the driver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from jsnats.client import ConsoleClient

from .common import ModemLines

if TYPE_CHECKING:
    from pexpect.fdpexpect import fdspawn


class PySerialClient(ConsoleClient):
    """Client of serial consoles: what every console has, the modem lines, and pexpect for scripts written with it."""

    _spawned: ExitStack | None = None

    def set_dtr(self, on: bool) -> None:
        """Assert or drop DTR. Raises OSError for a port without that line."""
        self.call("set_dtr", on)

    def set_rts(self, on: bool) -> None:
        """Assert or drop RTS. Raises OSError for a port without that line."""
        self.call("set_rts", on)

    def modem_lines(self) -> ModemLines:
        """Return the modem lines. Raises OSError for a port without them, or a server that does not tell them."""
        return ModemLines.model_validate(self.call("modem_lines"))

    def send_break(self, duration: float = 0.25) -> None:
        """Hold the line in the break condition for so many seconds."""
        self.call("send_break", duration)

    @contextmanager
    def pexpect(self, **options: Any) -> Iterator[fdspawn[bytes]]:
        """The console as a `pexpect.fdpexpect.fdspawn`, for as long as the block; `options` are its keyword arguments.

        It sees what the device says from now on. Needs `jsnats-driver-pyserial[pexpect]`.
        """
        from jsnats_driver_network.adapters import PexpectAdapter

        with PexpectAdapter(client=self, options=options) as spawn:
            yield spawn

    def open(self, **options: Any) -> fdspawn[bytes]:
        """As `pexpect`, until `close()`."""
        self.close()
        self._spawned = ExitStack()
        return self._spawned.enter_context(self.pexpect(**options))

    def close(self) -> None:
        """Let go of what `open` gave and of what `send` opened, so that somebody else may write."""
        super().close()
        if self._spawned:
            self._spawned.close()
            self._spawned = None
