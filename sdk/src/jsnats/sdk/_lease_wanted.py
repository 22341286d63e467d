"""What somebody asks for who wants a lease."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from jsnats.schemas import ConfigurationError, Selector, check_name

from ._moment import Duration, seconds_of

SCRIPT_S, SHELL_S = 30.0, 600.0
"""How long a lease outlives a process that says nothing any more: of scripts and `jsnats run`, of `jsnats shell`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for: an exporter for each selector. Durations in seconds; None leaves it to the lab."""

    selectors: tuple[str, ...]
    duration: float | None = None
    priority: int = 0
    wait: float | None = None
    begin: float | None = None
    tether: float = SCRIPT_S
    note: str = ""

    def fields(self) -> dict[str, Any]:
        """Of the request; what is not said is left out."""
        said = {
            "duration": self.duration,
            "priority": self.priority or None,
            "tether": self.tether or None,
            "wait": self.wait,
            "begin": self.begin,
            "note": self.note or None,
        }
        return {"selectors": list(self.selectors)} | {key: value for key, value in said.items() if value is not None}


class LeaseOptions(TypedDict, total=False):
    """How a lease is wanted.

    `exporter` names one, as the selector `name=...` does, or several. `duration` is how long it is wanted, by default
    what the lab gives. `wait` is how long to wait for it, by default until it is there. With `tether`, 30 s by default,
    it ends so long after this process has vanished; 0 keeps it until its end. `note` is for others to read.
    """

    exporter: str | Sequence[str]
    duration: Duration | None
    priority: int
    wait: Duration | None
    tether: Duration
    note: str


def wanted(selectors: Sequence[str], **options: Unpack[LeaseOptions]) -> Wanted:
    """What the arguments of `lab.lease` mean. Raises ConfigurationError."""
    names = options.get("exporter", ())
    names = (names,) if isinstance(names, str) else names
    duration, wait = options.get("duration"), options.get("wait")
    meant = (*selectors, *(f"name={check_name(name, 'exporter name')}" for name in names))
    if not meant:
        raise ConfigurationError('say which exporter: lab.lease("board=rpi4") or lab.lease(exporter="bench-1")')
    return Wanted(
        selectors=tuple(Selector.parse(each).text for each in meant),
        duration=None if duration is None else seconds_of(duration),
        priority=options.get("priority", 0),
        wait=None if wait is None else seconds_of(wait),
        tether=seconds_of(options.get("tether", SCRIPT_S)),
        note=options.get("note", ""),
    )
