"""Power of Tasmota plugs over MQTT: `driver.py` has the driver; its client is that of every switch.

`plug.py` is the conversation with one plug over a broker, `topics.py` what a plug calls things and how it says them,
`testing.py` a plug made of software and brokers for it.
"""

from .driver import TasmotaPower

__all__ = ["TasmotaPower"]
