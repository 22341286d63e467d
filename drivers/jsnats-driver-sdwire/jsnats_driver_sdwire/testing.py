"""A USB bus without hardware, at pyusb's lowest edge: a backend in place of libusb, whose devices answer transfers.

`FakeBus` is the backend, `FakeDevice` the base of what is plugged into it (other drivers have their own),
`FakeFt200x` and `FakeReader` the two kinds of SDWire. `Bench` puts the disk of one beside it, in a tree like sysfs.
"""

from __future__ import annotations

import errno
import shutil
import subprocess
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import usb.backend
import usb.core

from . import card

GET_DESCRIPTOR, STRING = 0x06, 0x03
_CODES = {errno.EACCES: -3, errno.ENODEV: -4, errno.EBUSY: -6, errno.EPIPE: -9, errno.ENOENT: -5}


def fault(number: int) -> usb.core.USBError:
    """What pyusb raises for it."""
    kind = usb.core.USBTimeoutError if number == errno.ETIMEDOUT else usb.core.USBError
    return kind(f"fault {number}", _CODES.get(number, -1), number)


@dataclass(kw_only=True, eq=False)
class FakeDevice:
    """A device: its numbers, strings and place. `fault` is the errno of every transfer, `denied` forbids to open it;
    `transfers` are the control requests that it got, without those for its strings."""

    vendor: int
    product_id: int
    product: str = ""
    serial: str = ""
    bus: int = 1
    ports: tuple[int, ...] = (1,)
    plugged: bool = True
    denied: bool = False
    fault: int = 0
    transfers: list[tuple[int, ...]] = field(default_factory=list)

    def check(self) -> None:
        """Raise what a transfer would."""
        if not self.plugged:
            raise fault(errno.ENODEV)
        if self.fault:
            raise fault(self.fault)

    def string(self, index: int) -> bytes:
        """A string descriptor."""
        text = ("", "Maker", self.product, self.serial)[index].encode("utf-16-le")
        return bytes([len(text) + 2, STRING]) + text

    def control(self, request_type: int, request: int, value: int, index: int, data: Any) -> bytes:
        """Answer a control request."""
        raise fault(errno.EPIPE)


class FakeBus(usb.backend.IBackend):  # type: ignore[misc]
    """pyusb's backend: it opens devices and hands their transfers on. `open` are those that are open."""

    def __init__(self, *devices: FakeDevice) -> None:
        self.devices = list(devices)
        self.open: list[FakeDevice] = []

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Be the bus of this process."""
        with patch("usb.backend.libusb1.get_backend", lambda: self):
            yield

    def enumerate_devices(self) -> Iterator[FakeDevice]:
        """Those that are plugged in."""
        return (each for each in list(self.devices) if each.plugged)

    def get_device_descriptor(self, dev: FakeDevice) -> Any:
        """Numbers, places of strings, and the place on the bus."""
        return SimpleNamespace(
            bLength=18,
            bDescriptorType=1,
            bcdUSB=0x200,
            bDeviceClass=0,
            bDeviceSubClass=0,
            bDeviceProtocol=0,
            bMaxPacketSize0=8,
            idVendor=dev.vendor,
            idProduct=dev.product_id,
            bcdDevice=0x1000,
            iManufacturer=1,
            iProduct=2 if dev.product else 0,
            iSerialNumber=3 if dev.serial else 0,
            bNumConfigurations=1,
            address=self.devices.index(dev) + 2,
            bus=dev.bus,
            port_number=dev.ports[-1],
            port_numbers=dev.ports,
            speed=2,
        )

    def open_device(self, dev: FakeDevice) -> FakeDevice:
        """The handle is the device."""
        if dev.denied:
            raise fault(errno.EACCES)
        if not dev.plugged:
            raise fault(errno.ENODEV)
        self.open.append(dev)
        return dev

    def close_device(self, dev_handle: FakeDevice) -> None:
        """Take note of it."""
        self.open.remove(dev_handle)

    def ctrl_transfer(
        self,
        dev_handle: FakeDevice,
        bmRequestType: int,  # noqa: N803 - pyusb's names
        bRequest: int,  # noqa: N803
        wValue: int,  # noqa: N803
        wIndex: int,  # noqa: N803
        data: Any,
        timeout: int,
    ) -> int:
        """Strings are answered here, in English only; the device answers the rest."""
        dev_handle.check()
        if (bmRequestType, bRequest, wValue >> 8, wIndex) == (0x80, GET_DESCRIPTOR, STRING, 0x409):
            return _fill(data, dev_handle.string(wValue & 0xFF))
        dev_handle.transfers.append((bmRequestType, bRequest, wValue, wIndex))
        return _fill(data, dev_handle.control(bmRequestType, bRequest, wValue, wIndex, data))

    def is_kernel_driver_active(self, dev_handle: Any, intf: int) -> bool:
        """Ask the device."""
        dev_handle.check()
        return bool(dev_handle.kernel_driver)

    def detach_kernel_driver(self, dev_handle: Any, intf: int) -> None:
        """As libusb: there has to be one."""
        self._bind(dev_handle, "detach", False)

    def attach_kernel_driver(self, dev_handle: Any, intf: int) -> None:
        """As libusb: there must not be one."""
        self._bind(dev_handle, "attach", True)

    def _bind(self, device: Any, what: str, bound: bool) -> None:
        device.check()
        if device.kernel_driver is bound:
            raise fault(errno.EBUSY if bound else errno.ENOENT)
        device.kernel_driver = bound
        device.told.append(what)

    def reset_device(self, dev_handle: Any) -> None:
        """Tell the device."""
        dev_handle.check()
        dev_handle.reset()


def _fill(data: Any, answer: bytes) -> int:
    if isinstance(data, array) and answer:
        data[: len(answer)] = array(data.typecode, answer[: len(data)])
    return len(answer)


@dataclass(kw_only=True, eq=False)
class FakeFt200x(FakeDevice):
    """The switch of an SDWire: an FT200X with CBUS0 on the multiplexer, if its EEPROM says that it is a GPIO. Pins that
    are no outputs are pulled up, as they are when it has just got power."""

    vendor: int = 0x04E8
    product_id: int = 0x6001
    product: str = "sd-wire"
    serial: str = "sdw-1"
    ports: tuple[int, ...] = (1, 2)
    gpio: bool = True
    pins: int = 0x0F

    @property
    def at(self) -> str:
        """Where the multiplexer has the card."""
        return "host" if self.pins & 1 else "dut"

    def control(self, request_type: int, request: int, value: int, index: int, data: Any) -> bytes:
        """SET_BITMODE and READ_PINS."""
        if (request_type, request) == (0x40, 0x0B) and value >> 8 in (0x00, 0x20):
            outputs = value >> 4 & 0x0F if value >> 8 == 0x20 and self.gpio else 0
            self.pins = (value & outputs) | (~outputs & 0x0F)
            return b""
        if (request_type, request) == (0xC0, 0x0C):
            return bytes([self.pins])
        raise fault(errno.EPIPE)


@dataclass(kw_only=True, eq=False)
class FakeReader(FakeDevice):
    """The card reader of an SDWire3: at a reset it looks whether a driver wants its card."""

    vendor: int = 0x0BDA
    product_id: int = 0x0316
    product: str = "USB3.0-CRW"
    serial: str = "20120501030900000"
    ports: tuple[int, ...] = (3,)
    kernel_driver: bool = True
    at: str = "host"
    told: list[str] = field(default_factory=list)

    def reset(self) -> None:
        """Switch."""
        self.at = "host" if self.kernel_driver else "dut"
        self.told.append("reset")


class Bench:
    """An SDWire on a fake bus, and a disk beside it: sysfs and /dev are folders of `root`. The disk is a file, or
    whatever is put at `disk`."""

    def __init__(self, root: Path, device: FakeDevice | None = None, size: int = 1 << 20) -> None:
        self.device: Any = device or FakeFt200x()
        self.bus = FakeBus(self.device)
        root = root.resolve()
        self.sys, self.dev = root / "sys", root / "dev"
        self.disk = self.dev / "sdz"
        self.dev.mkdir(parents=True)
        self.disk.write_bytes(bytes(size))
        place = f"{self.device.bus}-{'.'.join(map(str, self.device.ports))}"
        hubs = [f"{self.device.bus}-{'.'.join(map(str, self.device.ports[:end]))}" for end in range(1, 9)]
        folder = self.sys.joinpath("devices", f"usb{self.device.bus}", *dict.fromkeys(hubs))
        folder.mkdir(parents=True)
        (self.sys / "bus/usb/devices").mkdir(parents=True)
        (self.sys / "bus/usb/devices" / place).symlink_to(folder)
        (self.sys / "class/block").mkdir(parents=True)
        self.hub = folder if isinstance(self.device, FakeReader) else folder.parent
        self.plug("sdz", self.hub)

    def plug(self, name: str, beside: Path, *, removable: bool = True, partition: bool = False) -> None:
        """Put a disk into sysfs: below that hub."""
        folder = beside / f"{beside.name}.1/host0/block/{name}"
        folder.mkdir(parents=True)
        (folder / "removable").write_text(f"{int(removable)}\n")
        if partition:
            (folder / "partition").write_text("1\n")
        (self.sys / "class/block" / name).symlink_to(folder)

    def pull(self, name: str) -> None:
        """Take a disk out of sysfs."""
        (self.sys / "class/block" / name).unlink()

    @contextmanager
    def attached(self) -> Iterator[Bench]:
        """Be the bus and the disks of this process."""
        with ExitStack() as stack:
            stack.enter_context(self.bus.attached())
            stack.enter_context(patch.object(card, "SYS", self.sys))
            stack.enter_context(patch.object(card, "DEV", self.dev))
            yield self


@contextmanager
def loop_device(file: Path) -> Iterator[Path]:
    """A block device of what is in a file. Raises OSError where that cannot be had."""
    losetup = shutil.which("losetup", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if losetup is None:
        raise FileNotFoundError("losetup is not installed")
    made = subprocess.run([losetup, "--find", "--show", file], capture_output=True, text=True, check=False)
    if made.returncode:
        raise OSError(made.stderr.strip())
    device = made.stdout.strip()
    try:
        yield Path(device)
    finally:
        subprocess.run([losetup, "--detach", device], check=True)
