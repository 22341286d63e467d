"""Measure jsnats, plain nats-py and Jumpstarter side by side, and compare with the goals. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from functools import partial

import peer
from image import drop_chunks, peak_mib, renew_image, reset_peak, stored_mb
from inventory import fill
from measure import timed_ms
from rows import DIRECT, FLOOR, GROUPS, JSNATS, JUMPSTARTER, ROWS, Rounds, summarise, table
from sides import Sides, commands, run_command, running_bytes, running_sides

Measured = dict[str, Rounds]
"""Rounds by the work of a row."""


def ask_all(sides: Sides, work: str, systems: tuple[str, ...] = ()) -> dict[str, dict[str, float]]:
    """One round of one row: each system in turn."""
    return {name: client.ask(work) for name, client in sides.clients.items() if not systems or name in systems}


def interleaved(rounds: int, works: dict[str, Callable[[], dict[str, dict[str, float]]]]) -> Measured:
    """Measure every row once, then every row again: what disturbs the machine for a while disturbs all systems."""
    measured: Measured = {work: [] for work in works}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}: {', '.join(works)}", file=sys.stderr)
        for work, measure in works.items():
            measured[work].append(measure())
    return measured


def traffic(group: str, rounds: int, jumpstarter: str | None) -> Measured:
    """Calls and streams."""
    works = dict.fromkeys(row.work for row in ROWS if row.group == group)
    with running_sides(jumpstarter) as sides:
        return interleaved(rounds, {work: partial(ask_all, sides, work) for work in works})


def cli(rounds: int, jumpstarter: str | None) -> Measured:
    """Commands, from start to end of the process."""
    with running_sides(jumpstarter) as sides:
        found = commands(sides, jumpstarter)

        def once(work: str) -> dict[str, dict[str, float]]:
            return {name: timed_ms(partial(run_command, *command)) for name, command in found[work].items()}

        for work in found:
            once(work)  # writes the byte code and fills the file cache
        return interleaved(rounds, {work: partial(once, work) for work in found})


def inventory(rounds: int, _jumpstarter: str | None) -> Measured:
    """The list of all exporters."""
    with running_sides(None) as sides:
        measured: Measured = {}
        there = 1  # the exporter that is no paper
        for size in (1_000, 10_000):
            fill(sides.broker.context(), there, size)
            there = size
            ask_all(sides, "inventory", (JSNATS, FLOOR))
            measured |= interleaved(
                rounds, {f"inventory_{size}": partial(ask_all, sides, "inventory", (JSNATS, FLOOR))}
            )
        return measured


def tunnel(rounds: int, jumpstarter: str | None) -> Measured:
    """Bytes through a TCP forward, and to the same service without one."""
    with running_bytes(jumpstarter) as (sides, _image, port):

        def measure(work: str) -> dict[str, dict[str, float]]:
            return ask_all(sides, work) | {DIRECT: peer.WORKS[work]((peer.HOST, port))}

        return interleaved(rounds, {work: partial(measure, work) for work in peer.WORKS})


def image(rounds: int, jumpstarter: str | None) -> Measured:
    """An image flashed, and flashed again."""
    with running_bytes(jumpstarter) as (sides, path, _port):
        admin = sides.broker.context()

        def first() -> dict[str, dict[str, float]]:
            sides.clients[JSNATS].ask("forget")  # or the store is full after some rounds
            drop_chunks(admin, "jsnats.blob.floor.*")
            renew_image(path)
            return {name: with_peaks(sides, name, "image") for name in sides.clients}

        def again() -> dict[str, dict[str, float]]:
            before = stored_mb(admin)
            found = ask_all(sides, "image_again", (JSNATS, JUMPSTARTER))
            found[JSNATS]["uploaded_mb"] = stored_mb(admin) - before
            return found

        return interleaved(rounds, {"image": first, "image_again": again})


def with_peaks(sides: Sides, name: str, work: str) -> dict[str, float]:
    """One round of one row of one system, and the most memory that its two processes had."""
    processes = {"client_mib": sides.clients[name].pid, "exporter_mib": sides.exporters[name].pid}
    for pid in processes.values():
        reset_peak(pid)
    return sides.clients[name].ask(work) | {figure: peak_mib(pid) for figure, pid in processes.items()}


def leases(rounds: int, _jumpstarter: str | None) -> Measured:
    """One board that goes from hand to hand."""
    with running_sides(None) as sides:
        return interleaved(rounds, {"handover": partial(ask_all, sides, "handover", (JSNATS,))})


def faults(rounds: int, _jumpstarter: str | None) -> Measured:
    """Time until a fault is noticed."""
    with running_sides(None) as sides:

        def kill() -> dict[str, dict[str, float]]:
            noticed = ask_all(sides, "killed", (JSNATS,))
            sides.start_jsnats_exporter()
            return noticed

        return interleaved(rounds, {"killed": kill})


MEASURES: dict[str, Callable[[int, str | None], Measured]] = {
    "calls": partial(traffic, "calls"),
    "streams": partial(traffic, "streams"),
    "cli": cli,
    "inventory": inventory,
    "tunnel": tunnel,
    "image": image,
    "leases": leases,
    "faults": faults,
}


def lines(groups: list[str], rounds: int, jumpstarter: str | None) -> Iterator[dict[str, object]]:
    """Measure the groups; yield the lines of the table."""
    for group in groups:
        measured = MEASURES[group](rounds, jumpstarter)
        yield from (summarise(row, measured[row.work]) for row in ROWS if row.group == group)


def main() -> None:
    """Parse, measure, print. The exit code is 1 when a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "groups", nargs="*", metavar="GROUP", help=f"what to measure: {', '.join(GROUPS)} (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=7, help="how often each figure is taken (default: %(default)s)")
    parser.add_argument("--jumpstarter", metavar="PYTHON", help="a Python that has Jumpstarter, to compare with")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    if unknown := set(arguments.groups) - set(GROUPS):
        parser.error(f"there is no {', '.join(unknown)}: choose from {', '.join(GROUPS)}")
    found = list(lines(arguments.groups or list(GROUPS), arguments.rounds, arguments.jumpstarter))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    if arguments.json:
        print(json.dumps({"machine": machine, "rounds": arguments.rounds, "rows": found}, indent=1))
    else:
        print(f"{machine}, {arguments.rounds} rounds; ratios are medians of the rounds")
        print(*table(found), sep="\n")
    sys.exit(any(not goal["met"] for line in found for goal in line["goals"]))  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
