"""A YKUSH without hardware, on the bus without hardware of the sdwire driver: pyusb's lowest edge."""

from __future__ import annotations

import errno
import threading
from array import array
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from jsnats_driver_sdwire.testing import FakeBus, FakeDevice, fault


@dataclass(kw_only=True, eq=False)
class FakeYkush(FakeDevice):
    """A hub: `on` are the ports that have power, `reports` what it was sent, `answers` what it has to say.

    `deaf` takes reports and does not answer, `stuck` are ports that do not switch, `refuses` are commands that it does
    not know. `taken` is how often another program is yet found to have the interface; `kernel_driver`, whether usbhid
    has it.
    """

    vendor: int = 0x04D8
    product_id: int = 0xF2F7
    product: str = "YKUSH"
    serial: str = "YK20001"
    ports: tuple[int, ...] = (2, 4)
    count: int = 3
    on: set[int] = field(default_factory=set)
    stuck: set[int] = field(default_factory=set)
    refuses: set[int] = field(default_factory=set)
    deaf: bool = False
    taken: int = 0
    claimed: bool = False
    kernel_driver: bool = True
    told: list[str] = field(default_factory=list)
    reports: list[bytes] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)

    def take(self, report: bytes) -> None:
        """Do what a report says, and answer."""
        self.reports.append(report)
        if not self.deaf:
            self.answers.append(self._answer(report[0]).ljust(64, b"\0"))

    def _answer(self, command: int) -> bytes:
        what, port = command & 0xF0, command & 0x0F
        meant = set(range(1, self.count + 1)) if port == 0x0A and self.count > 1 else {port}
        if what not in (0x00, 0x10, 0x20) or not meant <= set(range(1, self.count + 1)) or command in self.refuses:
            return b"\xff\xff"
        if what == 0x20:
            return bytes([1, port | (0x10 if port in self.on else 0)])
        self.on = self.on | (meant - self.stuck) if what else self.on - (meant - self.stuck)
        return bytes([1, command])


class HidBus(FakeBus):
    """The bus with devices that have a HID interface with two endpoints. A transfer in of which nothing comes ends in
    its timeout at once. Raises AssertionError when two use a hub at a time, or without having it for themselves."""

    def __init__(self, *devices: FakeYkush) -> None:
        super().__init__(*devices)
        self._lock = threading.Lock()

    def get_configuration(self, dev_handle: FakeYkush) -> int:
        """The only one."""
        dev_handle.check()
        return 1

    def get_configuration_descriptor(self, dev: FakeYkush, config: int) -> Any:
        """One interface."""
        return SimpleNamespace(
            bLength=9,
            bDescriptorType=2,
            wTotalLength=41,
            bNumInterfaces=1,
            bConfigurationValue=1,
            iConfiguration=0,
            bmAttributes=0x80,
            bMaxPower=50,
            extra_descriptors=[],
        )

    def get_interface_descriptor(self, dev: FakeYkush, intf: int, alt: int, config: int) -> Any:
        """HID, with two endpoints."""
        if intf or alt:
            raise IndexError
        return SimpleNamespace(
            bLength=9,
            bDescriptorType=4,
            bInterfaceNumber=0,
            bAlternateSetting=0,
            bNumEndpoints=2,
            bInterfaceClass=3,
            bInterfaceSubClass=0,
            bInterfaceProtocol=0,
            iInterface=0,
            extra_descriptors=[],
        )

    def get_endpoint_descriptor(self, dev: FakeYkush, ep: int, intf: int, alt: int, config: int) -> Any:
        """Interrupt, in and out."""
        return SimpleNamespace(
            bLength=7,
            bDescriptorType=5,
            bEndpointAddress=(0x81, 0x01)[ep],
            bmAttributes=3,
            wMaxPacketSize=64,
            bInterval=1,
            bRefresh=0,
            bSynchAddress=0,
            extra_descriptors=[],
        )

    def claim_interface(self, dev_handle: FakeYkush, intf: int) -> None:
        """As libusb: it is busy when the kernel or anybody else has it."""
        dev_handle.check()
        with self._lock:
            if dev_handle.taken:
                dev_handle.taken -= 1
                dev_handle.kernel_driver = not dev_handle.taken  # the other program has given it back
                raise fault(errno.EBUSY)
            if dev_handle.claimed or dev_handle.kernel_driver:
                raise fault(errno.EBUSY)
            dev_handle.claimed = True

    def release_interface(self, dev_handle: FakeYkush, intf: int) -> None:
        """Give it back."""
        dev_handle.claimed = False
        dev_handle.check()

    def intr_write(self, dev_handle: FakeYkush, ep: int, intf: int, data: Any, timeout: int) -> int:
        """A report to the hub."""
        assert (ep, dev_handle.claimed) == (0x01, True)
        dev_handle.check()
        dev_handle.take(bytes(data))
        return len(data)

    def intr_read(self, dev_handle: FakeYkush, ep: int, intf: int, size: Any, timeout: int) -> int:
        """A report from it."""
        assert (ep, dev_handle.claimed) == (0x81, True)
        dev_handle.check()
        if not dev_handle.answers:
            raise fault(errno.ETIMEDOUT)
        answer = dev_handle.answers.pop(0)
        size[: len(answer)] = array(size.typecode, answer)
        return len(answer)
