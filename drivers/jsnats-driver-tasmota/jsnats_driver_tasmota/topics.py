"""What a plug calls its topics, and how it says power and energy. No I/O.

With Tasmota's own settings the plug `plug-3` listens at `cmnd/plug-3/POWER` and confirms at `stat/plug-3/POWER`; its
broker says at `tele/plug-3/LWT` when it has gone. A plug with several relays has POWER1, POWER2 and so on.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Self

from jsnats_driver_power.common import PowerReading

ON, OFF = "ON", "OFF"
ONLINE, OFFLINE = "Online", "Offline"


@dataclass(frozen=True)
class Topics:
    """The topics of one relay: `command` and `state` switch it and confirm, the others follow from these two.

    `alive` is "" when `command` has no level `cmnd` to derive it from: then nothing tells that the plug is offline.
    """

    command: str
    state: str

    @classmethod
    def of(cls, plug: str) -> Self:
        """The topics of a plug that is named `plug` and keeps Tasmota's order of levels."""
        return cls(f"cmnd/{plug}/POWER", f"stat/{plug}/POWER")

    def __post_init__(self) -> None:
        for topic in (self.command, self.state):
            if not re.fullmatch(r"[^/+#\0]+(/[^/+#\0]+)+", topic):
                raise ValueError(f"{topic!r} is no topic of a plug: give one such as stat/plug-3/POWER")

    @property
    def alive(self) -> str:
        """Where the plug is Online or Offline."""
        levels = self.command.split("/")
        if "cmnd" not in levels:
            return ""
        levels[levels.index("cmnd")] = "tele"
        return "/".join([*levels[:-1], "LWT"])

    @property
    def ask_status(self) -> str:
        """Where a plug is asked for a status by its number."""
        return f"{self.command.rpartition('/')[0]}/STATUS"

    @property
    def energy(self) -> str:
        """Where status 8 comes: what the sensors measure."""
        return f"{self.state.rpartition('/')[0]}/STATUS8"

    @property
    def channel(self) -> int:
        """Index of the relay among those that are measured: 0 for POWER and POWER1, 1 for POWER2."""
        digits = re.search(r"\d*$", self.state)
        return max(0, int(digits[0]) - 1) if digits and digits[0] else 0


def energy_reading(status: bytes, channel: int = 0) -> PowerReading:
    """Voltage and current in the answer to status 8.

    A plug that measures several relays says a list, of voltages only when they differ. Raises NotImplementedError for
    a plug without a meter, ValueError for what is no such answer.
    """
    try:
        energy = json.loads(status)["StatusSNS"].get("ENERGY")
        if energy is None or "Current" not in energy:
            raise NotImplementedError("this plug cannot measure: its status 8 has no ENERGY with a Current")
        return PowerReading(voltage=_of(energy["Voltage"], channel), current=_of(energy["Current"], channel))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the plug's status 8 cannot be read: {status[:200]!r}") from error


def _of(value: Any, channel: int) -> float:
    return float(value[channel] if isinstance(value, list) else value)
