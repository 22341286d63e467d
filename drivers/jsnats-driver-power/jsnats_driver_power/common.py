"""What a power driver reads."""

from pydantic import BaseModel


class PowerReading(BaseModel):
    """One measurement at the output: `voltage` in V, `current` in A."""

    voltage: float
    current: float

    @property
    def apparent_power(self) -> float:
        """Voltage times current, in VA."""
        return self.voltage * self.current
