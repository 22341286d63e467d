"""What both sides say alike."""

from typing import Final, Literal

BusKind = Literal["system", "session"]

BUS_VARIABLES: Final[dict[BusKind, str]] = {
    "system": "DBUS_SYSTEM_BUS_ADDRESS",
    "session": "DBUS_SESSION_BUS_ADDRESS",
}
"""The environment variable in which programs look for each bus."""


def place(host: str, port: int) -> str:
    """`host:port` as people write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
