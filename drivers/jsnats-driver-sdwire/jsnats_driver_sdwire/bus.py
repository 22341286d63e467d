"""USB devices of this host: found anew for each use, so that one that was plugged in again is simply there.

A device is named by its serial number or, where two have the same, by its port: `1-1.2` as the kernel writes it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import usb.core
import usb.util

US_ENGLISH = 0x0409
_GONE = (errno.ENODEV, errno.ENOENT, errno.EIO, errno.EPIPE)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a device says it is; `product` is its product string, "" for any. One that is not `own` shares its numbers
    with devices that are something else, so it has to be named."""

    vendor: int
    product_id: int
    product: str = ""
    own: bool = True


@contextmanager
def opened(what: str, kinds: Iterable[Kind], name: str | None) -> Iterator[tuple[Kind, Any]]:
    """The one device of these kinds that has this name, or the only one there is, and its kind; closed afterwards.

    Raises ConnectionError when it is not plugged in or goes away, PermissionError, TimeoutError, OSError for what else
    goes wrong with it, ValueError when there are several to choose from.
    """
    with explained(what):
        kind, device = _find(what, tuple(kinds), name)
        try:
            yield kind, device
        finally:
            with suppress(usb.core.USBError):  # it is gone
                usb.util.dispose_resources(device)


def port(device: Any) -> str:
    """Where it is plugged in: bus, and the ports of the hubs on the way to it."""
    return f"{device.bus}-{'.'.join(map(str, device.port_numbers or ()))}"


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Raise the builtin for what pyusb raises about this device."""
    try:
        yield
    except usb.core.NoBackendError as error:
        raise OSError("libusb is not installed: apt-get install libusb-1.0-0") from error
    except usb.core.USBTimeoutError as error:
        raise TimeoutError(f"{what} does not answer") from error
    except usb.core.USBError as error:
        raise _builtin(what, error) from error


def _builtin(what: str, error: usb.core.USBError) -> OSError:
    if error.errno == errno.EACCES:
        return PermissionError(f"{what}: the exporter's user may not use it: add the udev rule of the driver's README")
    if error.errno == errno.EBUSY:
        return OSError(f"{what} is in use by another program")
    if error.errno in _GONE:
        return ConnectionError(f"{what} is gone: it was unplugged, or has no power ({error.strerror})")
    return OSError(f"{what}: {error.strerror}")


def _find(what: str, kinds: tuple[Kind, ...], name: str | None) -> tuple[Kind, Any]:
    found, perhaps, denied = [], [], None
    for kind, device in _plugged_in(kinds):
        try:
            fits, told = _fits(kind, device, name)
        except usb.core.USBError as error:
            if error.errno == errno.EACCES:
                denied = error
            continue  # another one may be the one that is meant
        finally:
            usb.util.dispose_resources(device)
        if fits:
            found.append((kind, device, told))
        elif name is None and told:
            perhaps.append(told)
    if len(found) > 1:
        raise ValueError(f"{what}: there are {len(found)}, say which: {', '.join(each[2] for each in found)}")
    if found:
        return found[0][:2]
    if denied:
        raise denied
    others = f"; if it is one of these, say which: {', '.join(perhaps)}" if perhaps else ""
    raise ConnectionError(f"{what} is not plugged in{others}")


def _plugged_in(kinds: tuple[Kind, ...]) -> Iterator[tuple[Kind, Any]]:
    for device in usb.core.find(find_all=True):
        for kind in kinds:
            if (device.idVendor, device.idProduct) == (kind.vendor, kind.product_id):
                yield kind, device


def _fits(kind: Kind, device: Any, name: str | None) -> tuple[bool, str]:
    """Whether it is the one that is meant, and what to call it, "" if it is certainly something else."""
    serial = usb.util.get_string(device, device.iSerialNumber, US_ENGLISH) or ""
    if kind.product and usb.util.get_string(device, device.iProduct, US_ENGLISH) != kind.product:
        return False, ""
    told = f"{serial or 'no serial number'} at port {port(device)}"
    return (kind.own if name is None else name in (serial, port(device))), told
