"""From the `export` map of an exporter to driver objects.

First the shape of every node is checked, then the drivers are made, children before parents: making a driver is what
checks its parameters. A `ref` is followed when it is met, so the order of nodes and files does not matter.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from jsnats.driver import Composite, Driver
from jsnats.schemas import ConfigurationError, InvalidName, check_name

from ._config_types import driver_class, missing_module, suggestion
from ._config_yaml import Document, Key

logger = logging.getLogger(__name__)

NODE_KEYS: Final = ["type", "ref", "children", "config", "description"]
_BASE_FIELDS: Final = ("children", "parent", "description")


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node as it is written. `path` is dotted; `children` are the paths of those below."""

    path: str
    key: Key
    type: str = ""
    ref: str = ""
    config: dict[str, Any] = field(default_factory=dict, repr=False)
    description: str = ""
    children: tuple[str, ...] = ()


def read_nodes(document: Document) -> dict[str, NodeSpec]:
    """Return the nodes of the document's `export` map by path; what is wrong with their shape becomes a fault."""
    nodes: dict[str, NodeSpec] = {}
    _Shape(document, nodes).children((), ("export",), document.value.get("export"))
    return nodes


class _Shape:
    """Checks how nodes are written, one document at a time."""

    def __init__(self, document: Document, nodes: dict[str, NodeSpec]) -> None:
        self._document = document
        self._nodes = nodes

    def children(self, path: tuple[str, ...], key: Key, raw: Any) -> tuple[str, ...]:
        if not isinstance(raw, dict):
            self._document.fault(key, "must be a map of node names to nodes")
            return ()
        named = [(name, value) for name, value in raw.items() if self._named(name, key)]
        return tuple(self._node((*path, name), (*key, name), value) for name, value in named)

    def _named(self, name: str, key: Key) -> bool:
        try:
            check_name(name, "node name")
        except InvalidName as error:
            self._document.fault((*key, name), str(error))
            return False
        return True

    def _node(self, path: tuple[str, ...], key: Key, raw: Any) -> str:
        dotted = ".".join(path)
        self._nodes[dotted] = NodeSpec(dotted, key)  # first, so that parents stand before their children
        if not isinstance(raw, dict):
            self._document.fault(key, "must be a map with type, ref or children")
            return dotted
        self._keys(key, raw)
        self._nodes[dotted] = NodeSpec(
            dotted,
            key,
            type=self._text(key, raw, "type"),
            ref=self._text(key, raw, "ref"),
            config=self._config(key, raw.get("config")),
            description=self._text(key, raw, "description"),
            children=self.children(path, (*key, "children"), raw["children"]) if "children" in raw else (),
        )
        return dotted

    def _keys(self, key: Key, raw: dict[str, Any]) -> None:
        unknown_key_faults(self._document, key, raw, NODE_KEYS)
        if not {"type", "ref", "children"} & set(raw):
            self._document.fault(key, "needs one of type, ref or children")
        elif "ref" in raw and (others := sorted(set(raw) & set(NODE_KEYS) - {"ref"})):
            self._document.fault(key, f"a ref stands alone; take out {', '.join(others)}")
        elif "config" in raw and "type" not in raw:
            self._document.fault((*key, "config"), "config is for a node with a type")

    def _text(self, key: Key, raw: dict[str, Any], name: str) -> str:
        value = raw.get(name, "")
        if isinstance(value, str) and (value or name not in raw or name == "description"):
            return value
        self._document.fault((*key, name), "must be text")
        return ""

    def _config(self, key: Key, raw: Any) -> dict[str, Any]:
        key = (*key, "config")
        if raw is None:
            return {}
        if not isinstance(raw, dict):
            self._document.fault(key, "must be a map of parameters")
            return {}
        for name in raw:
            if name in _BASE_FIELDS:
                self._document.fault((*key, name), f"{name} is not a parameter: write it on the node, beside config")
        return {name: value for name, value in raw.items() if name not in _BASE_FIELDS}


def unknown_key_faults(document: Document, key: Key, raw: dict[str, Any], known: list[str]) -> None:
    """Note a fault for every key of a map that is not known here."""
    for name in raw:
        if name not in known:
            hint = suggestion(name, known) or f"; known are {', '.join(known)}"
            document.fault((*key, name), f"unknown key{hint}")


@dataclass(frozen=True, slots=True)
class Exporter:
    """The nodes of one exporter, for the builder."""

    name: str
    document: Document
    nodes: dict[str, NodeSpec]


class Builder:
    """Makes the drivers of several exporters, each once, whatever refers to it.

    `running` are the roots of those that are there already: nothing is made of them, nor closed.
    """

    def __init__(self, exporters: Iterable[Exporter], running: Mapping[str, Driver]) -> None:
        self._running = running
        self._read = list(exporters)
        self._exporters: dict[str, Exporter] = {}
        for exporter in self._read:
            self._exporters.setdefault(exporter.name, exporter)  # a second one of that name is reported by the caller
        self._made: dict[tuple[int, str], Driver | None] = {}
        self._open: list[tuple[int, str]] = []

    def root(self, exporter: Exporter) -> Composite:
        """Return the root of an exporter with every driver that could be made."""
        paths = [path for path in exporter.nodes if "." not in path]
        made = {path: self._driver(exporter, path) for path in paths}
        return Composite(children={path: driver for path, driver in made.items() if driver is not None})

    def close(self, but: Collection[str] = ()) -> None:
        """Close all drivers made so far, the last first; a failing one is logged. Not those of the exporters `but`."""
        running = {each for root in self._running.values() for each in _family(root)}
        spared = {id(each) for each in self._read if each.name in but}
        ours = [driver for (exporter, _), driver in self._made.items() if driver and exporter not in spared]
        made = dict.fromkeys(each for driver in ours for each in _family(driver))
        drivers = [each for each in made if each not in running]
        with ThreadPoolExecutor(1) as thread:  # of its own: this one may have a running event loop
            thread.submit(asyncio.run, _close_all(drivers[::-1])).result()

    def _driver(self, exporter: Exporter, path: str) -> Driver | None:
        """Return the driver at a path, None after a fault."""
        slot = (id(exporter), path)
        if slot in self._open:
            exporter.document.fault(exporter.nodes[path].key, "refers to itself, through ref or children")
            return None
        if slot not in self._made:
            self._open.append(slot)
            root = self._running.get(exporter.name)
            self._made[slot] = _below(root, path) if root else self._make(exporter, exporter.nodes[path])
            self._open.pop()
        return self._made[slot]

    def _make(self, exporter: Exporter, spec: NodeSpec) -> Driver | None:
        if spec.ref:
            return self._follow(exporter, spec)
        children = {path.rpartition(".")[2]: self._driver(exporter, path) for path in spec.children}
        present = {name: child for name, child in children.items() if child is not None}
        if not spec.type:
            return Composite(children=dict(present), description=spec.description) if spec.children else None
        return _construct(exporter.document, spec, present, complete=len(present) == len(children))

    def _follow(self, exporter: Exporter, spec: NodeSpec) -> Driver | None:
        name, colon, path = spec.ref.rpartition(":")
        target = self._exporters.get(name) if colon else exporter
        key = (*spec.key, "ref")
        if target is None:
            hint = suggestion(name, list(self._exporters))
            exporter.document.fault(key, f"no exporter {name!r} is loaded here{hint}")
            return None
        known, rest = _split_known(path, target.nodes)
        found = self._driver(target, known) if known else None
        if known and found is None:
            return None  # reported where it stands
        if rest and found:  # a child that a driver made itself
            found = _below(found, ".".join(rest))
        if found is None:
            hint = suggestion(path, list(target.nodes))
            exporter.document.fault(key, f"there is no node {path!r} in exporter {target.name!r}{hint}")
        return found


def _below(driver: Driver, path: str) -> Driver | None:
    found: Driver | None = driver
    for child in path.split("."):
        found = found.children.get(child) if found is not None else None
    return found


def _split_known(path: str, nodes: dict[str, NodeSpec]) -> tuple[str, list[str]]:
    """Split a path into its longest written part and what is left of it."""
    tokens = path.split(".")
    for end in range(len(tokens), 0, -1):
        if (known := ".".join(tokens[:end])) in nodes:
            return known, tokens[end:]
    return "", tokens


def _construct(document: Document, spec: NodeSpec, children: dict[str, Driver], *, complete: bool) -> Driver | None:
    """Make one driver. If a child is missing, only faults of its parameters are told: the rest may follow from that."""
    try:
        cls = driver_class(spec.type)
    except ConfigurationError as error:
        document.fault((*spec.key, "type"), str(error))
        return None
    try:
        return cls(children=children, description=spec.description, **spec.config)
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False, include_context=False):
            document.fault((*spec.key, "config", *_written(each["loc"], spec.config)), _parameter_fault(each, cls))
    except Exception as error:  # noqa: BLE001 - foreign code: whatever it raises is a line of the report
        if complete:
            document.fault(spec.key, _construction_fault(error, cls))
    return None


def _written(loc: Key, config: Any) -> Key:
    """Return the place without what pydantic puts behind a value that may be of several types: which it tried."""
    for depth, part in enumerate(loc):
        if type(config) not in (dict, list):
            return loc[:depth]
        try:
            config = config[part]
        except (LookupError, TypeError):
            return loc  # what is missing, or one of several kinds of maps
    return loc


def _parameter_fault(error: ErrorDetails, cls: type[Driver]) -> str:
    kind, loc = error["type"], error["loc"]
    if kind == "missing":
        return f"{cls.__name__} needs this parameter"
    if kind == "unexpected_keyword_argument" and len(loc) == 1:
        names = [name for name, each in cls.__dataclass_fields__.items() if each.init and name not in _BASE_FIELDS]
        hint = suggestion(str(loc[0]), names) or (f"; it takes {', '.join(names)}" if names else "; it takes none")
        return f"{cls.__name__} has no such parameter{hint}"
    return error["msg"].removeprefix("Input ").removeprefix("Value error, ")


def _construction_fault(error: Exception, cls: type[Driver]) -> str:
    if isinstance(error, ConfigurationError):
        return str(error)
    if isinstance(error, ImportError):
        return f"{cls.__name__} {missing_module(error, cls.__module__)}"
    reason = next(iter(str(error).splitlines()), "")
    return f"{cls.__name__} cannot be made: {type(error).__name__}: {reason}".removesuffix(": ")


def _family(driver: Driver, above: tuple[Driver, ...] = ()) -> list[Driver]:
    below = [child for child in driver.children.values() if isinstance(child, Driver) and child not in above]
    return [driver, *(each for child in below for each in _family(child, (*above, driver)))]


async def _close_all(drivers: list[Driver]) -> None:
    for driver in drivers:
        try:
            closing: Awaitable[None] | None = driver.close()
            if inspect.isawaitable(closing):
                await closing
        except Exception:  # the last loop over foreign code: the others are closed all the same
            logger.exception("closing %s failed", type(driver).__name__)
