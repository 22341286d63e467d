from __future__ import annotations

import pytest

from jsnats.broker._garbage import expired, victims
from jsnats.broker._shelf import LEAST_COST, Entry

NOW = 1_000_000_000.0
HOUR, DAY = 3600.0, 86_400.0


def entry(name: str, age_s: float, size: int = 1_000_000, *, stored: bool = True) -> Entry:
    """A file that was last used so long ago."""
    return Entry(sha256=name, size=size, owner="ann", used=NOW - age_s, stored=stored)


@pytest.mark.parametrize(
    ("age_s", "stored", "gone"),
    [
        (29 * DAY, True, False),
        (31 * DAY, True, True),
        (23 * HOUR, False, False),
        (25 * HOUR, False, True),
        (-DAY, True, False),
    ],
)
def test_expired(age_s: float, stored: bool, gone: bool) -> None:
    """A file goes 30 days after its last use, an unfinished upload after one."""
    each = entry("a", age_s, stored=stored)
    assert expired([each], NOW) == ([each] if gone else [])


# what there is (name, hours since its use), bytes needed, who goes
CHOICES: list[tuple[list[tuple[str, float]], int, str]] = [
    ([("a", 3), ("b", 2)], 0, ""),
    ([("a", 3), ("b", 2)], -5, ""),
    ([("b", 2), ("a", 3)], 1, "a"),
    ([("b", 2), ("a", 3), ("c", 4)], 1_500_000, "ca"),
    ([("a", 0.9)], 1, ""),
    ([("a", 3), ("b", 0.5)], 1_500_000, ""),
    ([], 1, ""),
]


@pytest.mark.parametrize(("there", "needed", "gone"), CHOICES)
def test_victims(there: list[tuple[str, float]], needed: int, gone: str) -> None:
    """Room is made by what was used longest ago, never by what was used in the last hour, and not at all in vain."""
    entries = [entry(name, hours * HOUR) for name, hours in there]
    assert "".join(each.sha256 for each in victims(entries, needed, NOW)) == gone


@pytest.mark.parametrize(("size", "least"), [(0, LEAST_COST), (1, LEAST_COST), (10_000_000, 10_000_000)])
def test_cost(size: int, least: int) -> None:
    """A file counts as its size and a little more, and as no less than what limits their number."""
    assert least <= entry("a", 0, size).cost <= least * 1.01
