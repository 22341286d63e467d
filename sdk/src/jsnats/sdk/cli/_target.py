"""From "bench-1.dut.power.on" to what the exporter published of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from jsnats.client import Channel
from jsnats.schemas import ConfigurationError, InterfaceRecord, MethodNotFound, MethodRecord, NodeRecord, TreeRecord
from jsnats.sdk import Lab, connect


@dataclass(frozen=True, slots=True)
class Target:
    """A method of a driver of an exporter. `subject` is the whole name."""

    subject: str
    channel: Channel
    node: NodeRecord
    name: str
    method: MethodRecord


@contextmanager
def lab_of(nats: str | None, context: Path | None) -> Iterator[Lab]:
    """A connection for one command. Raises BrokerUnreachable, AccessDenied, ConfigurationError."""
    with connect(nats, context=context) as lab:
        yield lab


def split_subject(subject: str) -> tuple[str, str, str]:
    """Exporter, path ("" for the root) and method of a dotted name. Raises ConfigurationError."""
    tokens = subject.split(".")
    if len(tokens) < 2 or not all(tokens):
        raise ConfigurationError(f"{subject!r} names no method: write EXPORTER.PATH.METHOD, as in bench-1.dut.power.on")
    return tokens[0], ".".join(tokens[1:-1]), tokens[-1]


def find_target(lab: Lab, subject: str) -> Target:
    """Look the method up. Raises MethodNotFound that says what there is instead, ConfigurationError."""
    exporter, path, name = split_subject(subject)
    tree, channel = lab.open(exporter)
    node = node_at(tree, path)
    methods = lab.interface(node.interface).methods
    if name not in methods:
        raise _not_found(lab, tree, node, name, methods)
    return Target(subject, channel, node, name, methods[name])


def node_at(tree: TreeRecord, path: str) -> NodeRecord:
    """The driver there, "" for the root. Raises MethodNotFound."""
    for node in tree.nodes:
        if node.path == path:
            return node
    paths = [node.path for node in tree.nodes if node.path]
    raise MethodNotFound(f"{tree.name} has no driver {path!r}{_close(path, paths)}: see `jsnats tree {tree.name}`")


def _not_found(
    lab: Lab, tree: TreeRecord, node: NodeRecord, name: str, methods: dict[str, MethodRecord]
) -> MethodNotFound:
    path = f"{node.path}.{name}" if node.path else name
    below = next((each for each in tree.nodes if each.path == path), None)
    if below:
        inside: InterfaceRecord = lab.interface(below.interface)
        return MethodNotFound(
            f"{path} is a driver: add one of its methods: {', '.join(inside.methods) or 'it has none'}"
        )
    known = ", ".join(methods) or "none"
    return MethodNotFound(
        f"{node.path or tree.name} has no method {name!r}{_close(name, list(methods))}: it has {known}"
    )


def _close(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
