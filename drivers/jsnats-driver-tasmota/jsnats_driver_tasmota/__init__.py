"""Power of Tasmota plugs over MQTT: `driver.py` has the driver, `client.py` the client.

`plug.py` is the conversation with one plug over a broker, `topics.py` what a plug calls things and how it says them,
`testing.py` a plug made of software and brokers for it. The driver is imported when it is asked for, so that a client
never loads the MQTT library.
"""

from typing import TYPE_CHECKING

from .client import TasmotaClient

if TYPE_CHECKING:
    from .driver import TasmotaPower

__all__ = ["TasmotaClient", "TasmotaPower"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
