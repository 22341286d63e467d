import errno

import pytest
import usb.core

from jsnats_driver_sdwire.bus import opened, port
from jsnats_driver_sdwire.mux import KINDS, position
from jsnats_driver_sdwire.testing import FakeBus, FakeDevice, FakeFt200x, FakeReader


def found(bus: FakeBus, name: str | None = None) -> FakeDevice:
    """The device that `opened` gives."""
    with bus.attached(), opened("the SDWire", KINDS, name) as (_, device):
        position(_, device)
        (handle,) = bus.open
    assert bus.open == []
    return handle


def test_the_only_one_needs_no_name() -> None:
    """Something else with the same numbers is not taken for one; it is closed again."""
    mine = FakeFt200x()
    assert found(FakeBus(FakeFt200x(product="Galaxy", serial="x"), FakeDevice(vendor=1, product_id=1), mine)) is mine


def test_a_name_is_a_serial_number_or_a_port() -> None:
    """The port is needed for those that all have the same serial number."""
    one, two = FakeFt200x(), FakeFt200x(serial="sdw-2", ports=(1, 4, 2))
    three, four = FakeReader(ports=(5,)), FakeReader(ports=(6,), bus=2)
    bus = FakeBus(one, two, three, four)
    assert found(bus, "sdw-2") is two
    assert found(bus, "1-1.4.2") is two
    assert found(bus, "2-6") is four
    with pytest.raises(ValueError, match="there are 2, say which: 20120501030900000 at port 1-5, .* at port 2-6"):
        found(bus, three.serial)
    with pytest.raises(ValueError, match="there are 2, say which: sdw-1 at port 1-1.2, sdw-2 at port 1-1.4.2"):
        found(bus)


def test_what_may_be_something_else_has_to_be_named() -> None:
    """A chip or a reader that are sold for other things too."""
    blank = FakeFt200x(vendor=0x0403, product_id=0x6015, product="FT200X", serial="D1")
    bus = FakeBus(blank, FakeReader())
    with pytest.raises(
        ConnectionError, match="not plugged in; if it is one of these, say which: D1 at port 1-1.2, 2012"
    ):
        found(bus)
    assert found(bus, "D1") is blank


def test_none_is_a_connection_error() -> None:
    """Also when there are others."""
    for bus in (FakeBus(), FakeBus(FakeFt200x(serial="other")), FakeBus(FakeFt200x(plugged=False))):
        with pytest.raises(ConnectionError, match="the SDWire is not plugged in$"):
            found(bus, "sdw-1")


def test_rights_are_told_when_they_are_the_reason() -> None:
    """One that may not be opened is in the way of nobody, and says so when it may be the one that is meant."""
    denied, mine = FakeFt200x(serial="secret", denied=True), FakeFt200x()
    assert found(FakeBus(denied, mine)) is mine
    with pytest.raises(PermissionError, match="may not use it: add the udev rule"):
        found(FakeBus(denied, mine), "secret")


@pytest.mark.parametrize(
    ("number", "kind", "told"),
    [
        (errno.ENODEV, ConnectionError, "is gone"),
        (errno.EIO, ConnectionError, "is gone"),
        (errno.ETIMEDOUT, TimeoutError, "does not answer"),
        (errno.EBUSY, OSError, "in use by another program"),
        (errno.EACCES, PermissionError, "udev"),
        (errno.EOVERFLOW, OSError, "the SDWire: fault"),
    ],
)
def test_a_fault_of_usb_is_a_builtin(number: int, kind: type[Exception], told: str) -> None:
    """In one line that names the device; it is closed all the same."""
    bus = FakeBus(mine := FakeFt200x())

    def ask() -> None:
        with opened("the SDWire", KINDS, None) as found:
            mine.fault = number
            position(*found)

    with bus.attached(), pytest.raises(kind, match=told):
        ask()
    assert bus.open == []


def test_a_host_without_libusb_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyusb's own message is `No backend available`."""
    for name in ("libusb0", "libusb1", "openusb"):
        monkeypatch.setattr(f"usb.backend.{name}.get_backend", lambda: None)
    with pytest.raises(OSError, match="apt-get install libusb"), opened("the SDWire", KINDS, None):
        pass


def test_the_real_bus_is_asked() -> None:
    """With libusb itself nothing of this name is found, and the port of what is there is written as by the kernel."""
    try:
        devices = list(usb.core.find(find_all=True))
    except usb.core.NoBackendError:
        pytest.skip("libusb is not installed")
    except usb.core.USBError as error:
        pytest.skip(f"libusb finds no USB here: {error}")
    with pytest.raises(ConnectionError, match="not plugged in"), opened("the SDWire", KINDS, "no such serial"):
        pass
    assert all(port(device)[0].isdigit() for device in devices)
