"""Power by HTTP: `driver.py` has the driver; its client is that of every switch.

`config.py` is what a request may say, `kinds.py` the requests of known devices, `http.py` the exchange with a device,
`testing.py` a plug for tests.
"""

from .driver import HttpPower

__all__ = ["HttpPower"]
