"""The physics behind the mocks: a supply with an inner resistance that feeds a capacitor and a load.

    source (+ ripple) --[ resistance ]--+-- load (mean + slow oscillation)
                                        |
                                   capacitance

The board sits at the capacitor, so its voltage is what a meter at the connector shows, and the current is the one
through the resistor. Charging the capacitor is the inrush: voltage / resistance at the moment of switching on, gone
after a few time constants. The circuit is linear, so its state is a sum of closed forms: no integration, no noise, and
the same reading for the same time in every run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import cos, exp, pi, sin

from .common import PowerReading

RIPPLE_HZ = 120.0
SWING_HZ = 0.2


@dataclass(kw_only=True)
class Supply:
    """A supply with its load. All times are in s on one clock of the caller's; it starts switched off and discharged.

    `voltage` V without load, `load` A in the mean, `swing` its oscillation as a share of it, `resistance` ohm,
    `capacitance` F, `ripple` V of the source. The default time constant of 50 ms is long for a board, so that
    readings ten times a second see the inrush.
    """

    voltage: float = 12.0
    load: float = 1.0
    swing: float = 0.2
    resistance: float = 0.5
    capacitance: float = 0.1
    ripple: float = 0.05
    on: bool = field(default=False, init=False)
    _since: float = field(default=0.0, init=False)
    _charge: float = field(default=0.0, init=False)  # V at the capacitor when it was switched last

    def switch(self, on: bool, now: float) -> None:
        """Switch on or off; what is left in the capacitor stays. Does nothing if it is so already."""
        if on != self.on:
            self._charge = self.reading(now).voltage
            self.on, self._since = on, now

    def draw(self, load: float, now: float) -> None:
        """Change the load, as a device does with what it does; what is in the capacitor stays."""
        self._charge = self.reading(now).voltage
        self.load, self._since = load, now

    def reading(self, now: float) -> PowerReading:
        """Voltage at the board and current out of the supply."""
        elapsed = max(0.0, now - self._since)
        return self._charging(elapsed) if self.on else self._discharging(elapsed)

    def _charging(self, elapsed: float) -> PowerReading:
        tau = self.resistance * self.capacitance
        settled = self.voltage - self.resistance * self.load
        voltage = settled + (self._charge - settled) * exp(-elapsed / tau)
        voltage += _low_pass(self.ripple, RIPPLE_HZ, tau, elapsed)
        voltage -= _low_pass(self.resistance * self.load * self.swing, SWING_HZ, tau, elapsed)
        voltage = max(0.0, voltage)
        source = self.voltage + self.ripple * sin(2 * pi * RIPPLE_HZ * elapsed)
        return PowerReading(voltage=voltage, current=max(0.0, (source - voltage) / self.resistance))

    def _discharging(self, elapsed: float) -> PowerReading:
        voltage = max(0.0, self._charge - self.load * elapsed / self.capacitance)
        return PowerReading(voltage=voltage, current=0.0)


def _low_pass(amplitude: float, hertz: float, tau: float, elapsed: float) -> float:
    """Answer of an RC low-pass at rest to a sine that begins at time 0."""
    omega = 2 * pi * hertz
    lag = omega * tau
    wave = sin(omega * elapsed) - lag * cos(omega * elapsed) + lag * exp(-elapsed / tau)
    return amplitude / (1 + lag * lag) * wave
