"""Power by HTTP: `driver.py` has the driver; its client is that of every switch.

`config.py` is what a request may say, `kinds.py` the requests of known devices, `http.py` a device that is asked,
`exchange.py` one request and its answer, for other drivers too, `testing.py` a plug for tests.
"""

from .driver import HttpPower

__all__ = ["HttpPower"]
