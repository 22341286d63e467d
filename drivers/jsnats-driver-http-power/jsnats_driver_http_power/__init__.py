"""Power by HTTP: `driver.py` has the driver, `client.py` its client.

`config.py` is what a request may say, `kinds.py` the requests of known devices, `http.py` the exchange with a device,
`testing.py` a plug for tests. The driver is imported when it is asked for, so that a client never loads requests.
"""

from typing import TYPE_CHECKING

from .client import HttpPowerClient

if TYPE_CHECKING:
    from .driver import HttpPower

__all__ = ["HttpPower", "HttpPowerClient"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from . import driver

        return getattr(driver, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
