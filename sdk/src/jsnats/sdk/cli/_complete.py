"""What the shell offers for an exporter or a method. Quick, and silent when there is no lab."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsnats.sdk import Lab

TIMEOUT_S = 1.0


def complete_exporter(incomplete: str) -> list[str]:
    """Names of exporters."""
    return [name for name in _ask(_exporters) if name.startswith(incomplete)]


def complete_exporter_method(incomplete: str) -> list[str]:
    """Names of exporters with a dot; behind one, the paths of that exporter's methods."""
    if "." not in incomplete:
        return [f"{name}." for name in _ask(_exporters) if name.startswith(incomplete)]
    exporter = incomplete.partition(".")[0]
    return [name for name in _ask(lambda lab: _methods(lab, exporter)) if name.startswith(incomplete)]


def complete_lease(incomplete: str) -> list[str]:
    """Ids of leases, bookings and waits."""
    return [id_ for id_ in _ask(_leases) if id_.startswith(incomplete)]


def complete_console(incomplete: str) -> list[str]:
    """Names of exporters with a dot; behind one, that exporter's consoles."""
    if "." not in incomplete:
        return [f"{name}." for name in _ask(_exporters) if name.startswith(incomplete)]
    exporter = incomplete.partition(".")[0]
    return [name for name in _ask(lambda lab: _consoles(lab, exporter)) if name.startswith(incomplete)]


def _ask(question: Callable[[Lab], list[str]]) -> list[str]:
    from jsnats.sdk import connect

    try:
        with connect(timeout_s=TIMEOUT_S) as lab:
            return question(lab)
    except Exception:  # noqa: BLE001 - a message in the middle of somebody's command line helps nobody
        return []


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
