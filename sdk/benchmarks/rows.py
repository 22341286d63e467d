"""The rows of the table: what each is, in which unit, and the goal it has to meet."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

JSNATS, FLOOR, JUMPSTARTER, LIMIT = "jsnats", "floor", "jumpstarter", "limit"
DIRECT = "direct"
"""No system at all: what the same measurement gives without one."""

Rounds = list[dict[str, dict[str, float]]]
"""For each round: figures by system."""


@dataclass(frozen=True, slots=True)
class Goal:
    """`factor` times the figure of `against`, or the bare number for LIMIT, is the most (or least) it may be."""

    against: str
    factor: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `work` is what the clients are asked for, `figure` the value in their answer."""

    group: str
    title: str
    work: str
    figure: str
    unit: str
    goals: tuple[Goal, ...]
    more_is_better: bool = False


ROWS = (
    Row("calls", "sync call, p50", "sync_call", "p50", "µs", (Goal(JUMPSTARTER, 0.6), Goal(FLOOR, 1.2))),
    Row("calls", "sync call, p99", "sync_call", "p99", "µs", (Goal(JUMPSTARTER, 0.6), Goal(FLOOR, 1.2))),
    Row("calls", "async call, p50", "async_call", "p50", "µs", (Goal(FLOOR, 1.25),)),
    Row("calls", "32 concurrent calls", "concurrent", "calls_s", "/s", (Goal(JUMPSTARTER, 4), Goal(FLOOR, 0.6)), True),
    Row(
        "streams",
        "stream, sync reader",
        "stream",
        "items_s",
        "items/s",
        (Goal(JUMPSTARTER, 100), Goal(FLOOR, 0.5)),
        True,
    ),
    Row("streams", "first item", "first_item", "ms", "ms", (Goal(JUMPSTARTER, 0.5),)),
    Row("cli", "--help", "help", "ms", "ms", (Goal(JUMPSTARTER, 0.25),)),
    Row("cli", "j power on", "command", "ms", "ms", (Goal(JUMPSTARTER, 0.5),)),
    Row("inventory", "list of 1 000 exporters", "inventory_1000", "ms", "ms", (Goal(FLOOR, 3),)),
    Row("inventory", "list of 10 000 exporters", "inventory_10000", "ms", "ms", (Goal(FLOOR, 3),)),
    Row("tunnel", "TCP forward, up", "tunnel_up", "mb_s", "MB/s", (Goal(JUMPSTARTER, 1.2),), True),
    Row("tunnel", "TCP forward, down", "tunnel_down", "mb_s", "MB/s", (Goal(JUMPSTARTER, 1.2),), True),
    Row("tunnel", "64-byte echo, p50", "tunnel_echo", "p50", "µs", (Goal(JUMPSTARTER, 1),)),
    Row("image", "256 MiB image", "image", "mb_s", "MB/s", (Goal(JUMPSTARTER, 1.6),), True),
    Row("image", "peak memory, client", "image", "client_mib", "MiB", (Goal(JUMPSTARTER, 0.8),)),
    Row("image", "peak memory, exporter", "image", "exporter_mib", "MiB", (Goal(JUMPSTARTER, 0.8),)),
    Row("image", "the same image again", "image_again", "mb_s", "MB/s", (Goal(JUMPSTARTER, 1.6),), True),
    Row("image", "uploaded for it", "image_again", "uploaded_mb", "MB", (Goal(LIMIT, 0),)),
    Row("leases", "handover, p50", "handover", "p50", "ms", (Goal(LIMIT, 100),)),
    Row("leases", "handover, p99", "handover", "p99", "ms", (Goal(LIMIT, 1000),)),
    Row("faults", "killed agent noticed mid-call", "killed", "s", "s", (Goal(LIMIT, 2),)),
)
GROUPS = tuple(dict.fromkeys(row.group for row in ROWS))


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summarise(row: Row, rounds: Rounds) -> dict[str, Any]:
    """The line of `row`: each system's figures, and for each goal the ratio, round by round, and whether it is met."""
    by_system = {
        system: [each[system][row.figure] for each in rounds if row.figure in each.get(system, ())]
        for system in (JSNATS, FLOOR, JUMPSTARTER, DIRECT)
    }
    goals = [_judge(row, goal, by_system) for goal in row.goals if goal.against == LIMIT or by_system[goal.against]]
    figures = {system: spread(values) for system, values in by_system.items() if values}
    return {"group": row.group, "row": row.title, "unit": row.unit, "figures": figures, "goals": goals}


def _judge(row: Row, goal: Goal, by_system: dict[str, list[float]]) -> dict[str, Any]:
    # The two figures of one round were taken within seconds of each other, so their ratio holds when the machine
    # is busier in some rounds than in others; the ratio of two medians would not.
    ours = by_system[JSNATS]
    base = [1.0] * len(ours) if goal.against == LIMIT else by_system[goal.against]
    ratio = spread([a / b for a, b in zip(ours, base, strict=True)])
    met = ratio["median"] >= goal.factor if row.more_is_better else ratio["median"] <= goal.factor
    sign = ">=" if row.more_is_better else "<="
    return {"against": goal.against, "goal": f"{sign} {goal.factor:g}", "ratio": ratio, "met": met}


def table(lines: list[dict[str, Any]]) -> Iterator[str]:
    """The lines as text."""
    yield f"{'':30}{'jsnats (min-max)':>30}{'floor':>10}{'Jumpstarter':>13}  goal"
    for line in lines:
        figures = line["figures"]
        ours = figures[JSNATS]
        middle = f"{_number(ours['median'])} ({_number(ours['min'])}-{_number(ours['max'])}) {line['unit']}"
        others = [_number(figures[system]["median"]) if system in figures else "-" for system in (FLOOR, JUMPSTARTER)]
        notes = [*map(_verdict, line["goals"])]
        if direct := figures.get(DIRECT):
            notes.append(f"direct: {_number(direct['median'])}")
        yield f"{line['row']:30}{middle:>30}{others[0]:>10}{others[1]:>13}  {'; '.join(notes)}"


def _verdict(goal: dict[str, Any]) -> str:
    ratio, word = goal["ratio"], "met" if goal["met"] else "missed"
    seen = f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})"
    if goal["against"] == LIMIT:
        return f"{word}: {seen} {goal['goal']}"
    return f"{word}: {seen}x {goal['against']} {goal['goal']}x"


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"
