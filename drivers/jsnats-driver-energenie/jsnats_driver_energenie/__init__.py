"""EnerGenie's socket strips with a network port: `driver.py` is one socket; its client is that of every switch.

`strip.py` speaks with the strip, which has a web page for people and one session at a time. `testing.py` is a strip
that needs no hardware, faults included.
"""

from .driver import EnerGenie

__all__ = ["EnerGenie"]
