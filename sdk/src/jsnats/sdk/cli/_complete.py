"""What the shell offers for an exporter, a method or a console. Quick, and silent when there is no lab."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from jsnats.sdk import Lab

T = TypeVar("T")

TIMEOUT_S = 1.0


def complete_exporter(incomplete: str) -> list[str]:
    """Names of exporters."""
    return [name for name in ask(_exporters) if name.startswith(incomplete)]


def complete_exporter_method(incomplete: str) -> list[str]:
    """Names of exporters with a dot; of the one exporter that it can be, the paths of its methods."""
    return ask(lambda lab: _below(lab, incomplete, _methods))


def complete_lease(incomplete: str) -> list[str]:
    """Ids of leases, bookings and waits."""
    return [id_ for id_ in ask(_leases) if id_.startswith(incomplete)]


def complete_console(incomplete: str) -> list[str]:
    """Names of exporters with a dot; of the one exporter that it can be, its consoles."""
    return ask(lambda lab: _below(lab, incomplete, _consoles))


def ask(question: Callable[[Lab], list[T]]) -> list[T]:
    """What the lab answers; nothing without a lab, and nothing if anything goes wrong."""
    from jsnats.sdk import connect

    try:
        with connect(timeout_s=TIMEOUT_S) as lab:
            return question(lab)
    except Exception:  # noqa: BLE001 - a message in the middle of somebody's command line helps nobody
        return []


def _below(lab: Lab, incomplete: str, paths: Callable[[Lab, str], list[str]]) -> list[str]:
    exporter, dot, _ = incomplete.partition(".")
    names = [exporter] if dot else [name for name in _exporters(lab) if name.startswith(incomplete)]
    if len(names) > 1:
        return [f"{name}." for name in names]
    # A single word is taken as final by the shell, with a space behind it: no name with a dot alone.
    return [path for name in names for path in paths(lab, name) if path.startswith(incomplete)]


def _exporters(lab: Lab) -> list[str]:
    return [info.name for info in lab.exporters()]


def _leases(lab: Lab) -> list[str]:
    return [*(each.id for each in lab.leases()), *(each.id for each in lab.queue())]


def _methods(lab: Lab, exporter: str) -> list[str]:
    return [
        ".".join(part for part in (exporter, node.path, name) if part)
        for node in lab.tree(exporter).nodes
        for name in lab.interface(node.interface).methods
    ]


def _consoles(lab: Lab, exporter: str) -> list[str]:
    from ._console_run import console_paths

    assert lab.inner.bridge
    return lab.inner.bridge.run(console_paths(lab.inner, exporter))
