"""Debug probes by probe-rs: `driver.py` has the driver, `client.py` the client, `common.py` what both say alike.

`tool.py` runs probe-rs, `output.py` understands what it prints, `turn.py` says whose turn it is, `gdb.py` is the gdb
server for one connection, `image.py` tells what kind of file an image is. `commands.py` are those of `j`. `testing.py`
has a stand-in for probe-rs, whose program is `stand_in.py`. The driver is imported when it is asked for, so that a
client never loads the exporter's side.
"""

from typing import TYPE_CHECKING

from .client import ProbeRsClient

if TYPE_CHECKING:
    from .driver import ProbeRs

__all__ = ["ProbeRs", "ProbeRsClient"]


def __getattr__(name: str) -> object:
    if name == "ProbeRs":
        from .driver import ProbeRs

        return ProbeRs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
