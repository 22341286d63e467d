"""What is sent to an SDWire to switch its card, and how it says where the card is.

SDWire and SDWireC have an FTDI FT200X whose pin CBUS0 drives the multiplexer: high is the host, low the device. The
pins are set by the vendor request SET_BITMODE (0x0B) with mode CBUS (0x20) in the high byte of wValue, and in the low
one the direction of the four pins (1 is output) over their levels; READ_PINS (0x0C) reads the levels. This is what
Samsung's sd-mux-ctrl does by libftdi's ftdi_set_bitmode and ftdi_read_pins (https://github.com/gilatoes/sd-mux-ctrl
has its src/main.cpp).

SDWire3 has a Realtek card reader that gives the card to the device when no kernel driver has the reader's interface and
the reader is reset, and takes it back when one has it and the reader is reset: what Badgerd's sdwire-cli does
(https://github.com/Badger-Embedded/sdwire-cli). It has no register for that: a driver on the interface is the state.
"""

from __future__ import annotations

from typing import Any, Literal

from .bus import Kind

Position = Literal["host", "dut"]

SDWIRE = Kind(0x04E8, 0x6001, "sd-wire")
BLANK = Kind(0x0403, 0x6015, own=False)
"""An FT200X that nobody has given a name to; any adapter with that chip looks the same."""
SDWIRE3 = Kind(0x0BDA, 0x0316, own=False)
"""Any card reader with that chip looks the same."""
KINDS = (SDWIRE, BLANK, SDWIRE3)

_TO_DEVICE, _FROM_DEVICE = 0x40, 0xC0  # vendor requests
_SET_BITMODE, _READ_PINS = 0x0B, 0x0C
_CBUS, _OUTPUTS, _CBUS0 = 0x20, 0xF0, 0x01
_INTERFACE = 0


def position(kind: Kind, device: Any) -> Position:
    """Where the card is. Raises USBError."""
    if kind is SDWIRE3:
        return "host" if device.is_kernel_driver_active(_INTERFACE) else "dut"
    return "host" if device.ctrl_transfer(_FROM_DEVICE, _READ_PINS, 0, 0, 1)[0] & _CBUS0 else "dut"


def switch(kind: Kind, device: Any, to: Position) -> None:
    """Bring the card there. Raises USBError, and OSError when it is not there afterwards."""
    (_switch_reader if kind is SDWIRE3 else _switch_pin)(device, to)
    if (found := position(kind, device)) != to:
        raise OSError(f"the SDWire did not switch: the card is at {found}{_REASONS.get(kind, '')}")


_REASONS = {BLANK: "; CBUS0 of its FT200X has to be a GPIO, see the driver's README"}


def _switch_pin(device: Any, to: Position) -> None:
    pins = _OUTPUTS | (_CBUS0 if to == "host" else 0)
    device.ctrl_transfer(_TO_DEVICE, _SET_BITMODE, _CBUS << 8 | pins, 0)


def _switch_reader(device: Any, to: Position) -> None:
    if position(SDWIRE3, device) == to:
        return  # attaching twice is an error, and a reset would take the card from who uses it
    if to == "host":
        device.attach_kernel_driver(_INTERFACE)
    else:
        device.detach_kernel_driver(_INTERFACE)
    device.reset()
