"""What is sent to a YKUSH: reports of 64 bytes to the HID device that sits beside the ports.

The first byte is the command: the port, 1 to 3 or 0x0A for all, plus 0x10 to switch on, 0x00 to switch off, 0x20 to
ask. The answer begins with 1 when it was done; its second byte is, to a question, the port plus 0x10 if that is on. A
YKUSH XS has one port and knows no "all". So says Yepkit's own code: https://github.com/Yepkit/ykush (src/ykush,
src/ykush3, src/ykushxs) and https://github.com/Yepkit/pykush.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import usb.core
import usb.util

from jsnats_driver_sdwire.bus import Kind, opened

PORTS = {Kind(0x04D8, 0xF2F7): 3, Kind(0x04D8, 0xF11B): 3, Kind(0x04D8, 0xF0CD): 1}
"""YKUSH, YKUSH3 and YKUSH XS, with the number of their ports."""

REPORT = 64
_ALL, _ON, _ASK, _DONE = 0x0A, 0x10, 0x20, 0x01
_HID = 3
_ANSWER_MS = 2000
_STALE_MS = 10
BUSY_S = 5.0
"""Seconds that a hub which another program has open is tried."""

_turn = threading.Lock()  # ports of one hub are drivers of their own, and its interface is one


@contextmanager
def connected(name: str | None) -> Iterator[Hub]:
    """The hub of this serial number or at this USB port, or the only one, for oneself. Raises as `bus.opened`."""
    what = f"YKUSH {name}" if name else "the YKUSH"
    with _turn, opened(what, PORTS, name) as (kind, device):
        interface = usb.util.find_descriptor(device.get_active_configuration(), bInterfaceClass=_HID)
        if interface is None:
            raise ConnectionError(f"{what} has no HID interface")
        with _claimed(device, interface.bInterfaceNumber):
            out, back = (_endpoint(interface, each) for each in (usb.util.ENDPOINT_OUT, usb.util.ENDPOINT_IN))
            hub = Hub(what, PORTS[kind], out, back)
            hub.forget()
            yield hub


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub that is open, its number of ports, and the two endpoints of its HID device."""

    what: str
    ports: int
    out: Any
    back: Any

    def forget(self) -> None:
        """Take answers that nobody has read, of a program that was killed."""
        with suppress(usb.core.USBTimeoutError):
            while True:
                self.back.read(REPORT, _STALE_MS)

    def switch(self, port: str, on: bool) -> None:
        """Switch a port, or `all`, and see it switched. Raises OSError."""
        numbers = self.numbers(port)
        self._ask((_ON if on else 0) | (_ALL if len(numbers) > 1 else numbers[0]))
        if wrong := [number for number in numbers if self.is_on(number) is not on]:
            raise OSError(f"{self.what} did not switch port {wrong[0]} {'on' if on else 'off'}, and says that it did")

    def is_on(self, number: int) -> bool:
        """Ask for one port. Raises OSError."""
        state = self._ask(_ASK | number)[1]
        if state & 0x0F != number:
            raise OSError(f"{self.what} was asked for port {number} and answers 0x{state:02x}")
        return bool(state & _ON)

    def numbers(self, port: str) -> list[int]:
        """The ports that are meant. Raises ValueError when there is no such port."""
        if port == "all":
            return list(range(1, self.ports + 1))
        if int(port) > self.ports:
            raise ValueError(f"{self.what} has {self.ports} port{'s' * (self.ports > 1)}, and none with number {port}")
        return [int(port)]

    def _ask(self, command: int) -> bytes:
        self.out.write(bytes([command]).ljust(REPORT, b"\0"), _ANSWER_MS)
        answer = self._read() or self._read()  # an empty one is the end of the answer before
        if len(answer) < 2 or answer[0] != _DONE:
            raise OSError(f"{self.what} refuses command 0x{command:02x}: it answers {answer[:2].hex(' ') or 'nothing'}")
        return answer

    def _read(self) -> bytes:
        return bytes(self.back.read(REPORT, _ANSWER_MS))


def _endpoint(interface: Any, direction: int) -> Any:
    return usb.util.find_descriptor(
        interface, custom_match=lambda each: usb.util.endpoint_direction(each.bEndpointAddress) == direction
    )


@contextmanager
def _claimed(device: Any, interface: int) -> Iterator[None]:
    """Take the interface from the kernel, which has it for other HID programs, and give it back."""
    deadline = time.monotonic() + BUSY_S
    while not _claim(device, interface, time.monotonic() > deadline):
        time.sleep(0.05)
    try:
        yield
    finally:
        with suppress(usb.core.USBError):  # the hub is gone, or the kernel has no driver for it
            usb.util.release_interface(device, interface)
            device.attach_kernel_driver(interface)


def _claim(device: Any, interface: int, last: bool) -> bool:
    """Say whether it could be had. Raises USBError; when another program has it, only at the last time."""
    try:
        if device.is_kernel_driver_active(interface):
            device.detach_kernel_driver(interface)
        usb.util.claim_interface(device, interface)
    except usb.core.USBError as error:
        if last or error.errno not in (errno.EBUSY, errno.ENOENT):  # or it was just detached by the other
            raise
        return False
    return True
