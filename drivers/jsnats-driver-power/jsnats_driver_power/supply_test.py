from itertools import pairwise
from math import exp

import pytest

from .supply import Supply


def switched_on(**parameters: float) -> Supply:
    """A supply that was switched on at time 0."""
    supply = Supply(**parameters)
    supply.switch(True, 0.0)
    return supply


def test_a_new_supply_is_dead() -> None:
    """Before it is switched on there is neither voltage nor current."""
    reading = Supply().reading(5.0)
    assert (reading.voltage, reading.current) == (0.0, 0.0)


def test_inrush_is_limited_by_the_resistance_alone() -> None:
    """At the moment of switching on an empty capacitor is a short: 12 V over 0.5 ohm are 24 A."""
    reading = switched_on().reading(0.0)
    assert reading.voltage == 0.0
    assert reading.current == pytest.approx(24.0)


def test_the_capacitor_charges_with_its_time_constant() -> None:
    """After R*C = 50 ms an unloaded output is at 1 - 1/e of the source."""
    supply = switched_on(load=0.0, ripple=0.0)
    assert supply.reading(0.05).voltage == pytest.approx(12.0 * 0.63212, rel=1e-4)


def test_a_settled_output_sags_with_its_load() -> None:
    """Without ripple and swing, 1 A through 0.5 ohm takes 0.5 V, and the current is the load's."""
    reading = switched_on(ripple=0.0, swing=0.0).reading(10.0)
    assert reading.voltage == pytest.approx(11.5)
    assert reading.current == pytest.approx(1.0)


def test_the_load_swings_by_its_share() -> None:
    """Over a whole period of 5 s the current goes from 0.8 to 1.2 A."""
    supply = switched_on(ripple=0.0)
    currents = [supply.reading(10.0 + step / 100).current for step in range(500)]
    assert min(currents) == pytest.approx(0.8, abs=0.002)
    assert max(currents) == pytest.approx(1.2, abs=0.002)


def test_the_capacitor_smooths_the_ripple() -> None:
    """50 mV at the source are under 2 mV at the board, but not nothing."""
    supply = switched_on(swing=0.0)
    voltages = [supply.reading(10.0 + step / 10_000).voltage for step in range(1000)]
    assert 0.001 < max(voltages) - 11.5 < 0.002


def test_the_closed_form_solves_the_circuit() -> None:
    """At every time the resistor's current is the load's plus what charges the capacitor."""
    supply, step = switched_on(), 1e-6
    for begin in (0.01, 0.1, 1.0, 7.3):
        charging = 0.1 * (supply.reading(begin + step).voltage - supply.reading(begin - step).voltage) / (2 * step)
        drawn = supply.reading(begin).current - charging
        assert 0.8 - 1e-3 <= drawn <= 1.2 + 1e-3


def test_switched_off_the_load_empties_the_capacitor() -> None:
    """The current stops at once; the voltage falls by load / capacitance = 10 V/s, down to 0."""
    supply = switched_on(ripple=0.0, swing=0.0)
    supply.switch(False, 10.0)
    falling = [supply.reading(10.0 + step / 10) for step in range(20)]
    assert all(reading.current == 0.0 for reading in falling)
    assert falling[1].voltage == pytest.approx(10.5)
    assert all(later.voltage <= earlier.voltage for earlier, later in pairwise(falling))
    assert falling[-1].voltage == 0.0


def test_a_charged_capacitor_makes_less_inrush() -> None:
    """Switched on again at once, what is left in the capacitor is kept."""
    supply = switched_on(ripple=0.0, swing=0.0)
    supply.switch(False, 10.0)
    supply.switch(True, 10.1)
    assert supply.reading(10.1).current == pytest.approx((12.0 - 10.5) / 0.5)


def test_switching_on_twice_changes_nothing() -> None:
    """A second `on` is no second inrush."""
    supply = switched_on()
    supply.switch(True, 10.0)
    assert supply.reading(10.0) == switched_on().reading(10.0)


@pytest.mark.parametrize("on", [True, False])
def test_a_load_may_change(on: bool) -> None:
    """The voltage goes on from where it is; on, it settles at the new current, and off it falls with it."""
    supply = switched_on(ripple=0.0, swing=0.0)
    supply.switch(on, 10.0)
    supply.draw(3.0, 10.1)
    assert supply.reading(10.1).voltage == pytest.approx(11.5 if on else 10.5)
    assert supply.reading(10.2).voltage == pytest.approx(10.5 + exp(-2) if on else 7.5, abs=0.01)
    assert supply.reading(20.0).current == pytest.approx(3.0 if on else 0.0)


def test_apparent_power_is_the_product() -> None:
    """Volt times ampere."""
    reading = switched_on(ripple=0.0, swing=0.0).reading(10.0)
    assert reading.apparent_power == pytest.approx(11.5)
