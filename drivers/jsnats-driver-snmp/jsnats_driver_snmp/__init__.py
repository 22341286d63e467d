"""Outlets of PDUs over SNMP: `driver.py` has the driver, `session.py` the protocol; the client is that of every switch.

`testing.py` is a PDU made of snmpd.
"""

from .driver import SNMPServer

__all__ = ["SNMPServer"]
