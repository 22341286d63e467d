"""What a digital pin tells."""

from typing import Literal

from pydantic import BaseModel

EdgeType = Literal["rising", "falling"]
"""Rising is from inactive to active, whatever the voltage does: `active_low` is already applied."""


class Edge(BaseModel):
    """A pin has changed: `timestamp` is in s since 1970, by the clock of the exporter's host.

    `missed` edges were lost between the one before and this, since they came faster than they were read.
    """

    type: EdgeType
    timestamp: float
    missed: int = 0
