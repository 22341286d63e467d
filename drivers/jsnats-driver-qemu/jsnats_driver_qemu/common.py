"""What travels between the driver and its client."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel


class Snapshot(BaseModel):
    """A snapshot: its `name`, when it was `taken`, and the `size` of the memory in it, in bytes."""

    name: str
    taken: datetime
    size: int
