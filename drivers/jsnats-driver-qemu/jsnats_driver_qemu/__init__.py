"""Virtual boards in QEMU.

`driver.py` has the parameters, `power.py`, `flasher.py`, `console.py`, `snapshots.py` and `services.py` (the screen,
ports of the guest) the children. They share `vm.py`, the board that is on or off: `board.py` is its command line by
architecture, `process.py` one run of QEMU and its monitor, `disks.py` and `image.py` what it stores, `line.py` the
serial line, `identity.py` who the guest is.

`client.py` has the clients, `common.py` what travels, `testing.py` finds firmware and makes a small Linux.
The driver is imported when it is asked for, so that a client never loads the exporter's side.
"""

from typing import TYPE_CHECKING

from .client import QemuClient, SnapshotsClient
from .common import Snapshot

if TYPE_CHECKING:
    from .driver import Qemu

__all__ = ["Qemu", "QemuClient", "Snapshot", "SnapshotsClient"]


def __getattr__(name: str) -> object:
    if name == "Qemu":
        from .driver import Qemu

        return Qemu
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
