"""The tree of drivers of one exporter: where each is, and everything that is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from jsnats.schemas import (
    MAX_DEPTH,
    MAX_SUBJECT,
    ConfigurationError,
    InterfaceRecord,
    InvalidName,
    NodeRecord,
    check_name,
)

from ._composite import Composite
from ._driver import Driver
from ._interface import interface_of, methods_of
from ._method import Method
from ._package import package_of

# What is left of a subject for path and method after "jsnats.call.", a full exporter name and a user of 63 bytes.
_MAX_PATH = MAX_SUBJECT - len("jsnats.call.") - 2 * 64


@dataclass(frozen=True, slots=True)
class Node:
    """One driver in its place: `path` is dotted, "" for the root."""

    path: str
    driver: Driver
    methods: dict[str, Method]


class TreeFault(NamedTuple):
    """Something wrong at a path."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path or '(root)'}: {self.message}"


def build_tree(root: Driver) -> dict[str, Node]:
    """Return the nodes by path, a parent before its children, and give each driver its `path` and `parent`.

    A driver that is reached twice is a node under each path and keeps the first as its own. Raises ConfigurationError
    with all faults of the tree.
    """
    tree, faults = check_tree(root)
    if faults:
        lines = [str(fault) for fault in faults]
        raise ConfigurationError("\n".join(lines), lines)
    return tree


def check_tree(root: Driver) -> tuple[dict[str, Node], list[TreeFault]]:
    """As `build_tree`, but hand the faults back; the tree then lacks the nodes that cannot be."""
    survey = _Survey()
    survey.visit("", root, ())
    return survey.tree, survey.faults


class _Survey:
    """One walk over a tree."""

    def __init__(self) -> None:
        self.tree: dict[str, Node] = {}
        self.faults: list[TreeFault] = []
        self._placed: set[Driver] = set()

    def visit(self, path: str, driver: Driver, above: tuple[Driver, ...]) -> None:
        if driver in above:
            self._fault(path, "is also above itself: a tree cannot have a cycle")
        elif len(above) > MAX_DEPTH:
            self._fault(path, f"is {len(above)} levels deep; the limit is {MAX_DEPTH}")
        else:
            self._enter(path, driver, above)

    def _enter(self, path: str, driver: Driver, above: tuple[Driver, ...]) -> None:
        self._place(path, driver, above)
        methods = self._methods(path, driver)
        self.tree[path] = Node(path, driver, methods)
        self.faults += (TreeFault(path, message) for message in _client_faults(driver))
        self.faults += (TreeFault(path, message) for message in _length_faults(path, methods))
        for name, child in driver.children.items():
            self._child(path, name, child, methods, (*above, driver))

    def _child(
        self, path: str, name: str, child: object, methods: dict[str, Method], above: tuple[Driver, ...]
    ) -> None:
        child_path = f"{path}.{name}" if path else str(name)
        self.faults += (TreeFault(child_path, message) for message in _name_faults(name, methods))
        if isinstance(child, Driver):
            self.visit(child_path, child, above)
        else:
            self._fault(child_path, f"is of type {type(child).__name__}, which is no driver")

    def _place(self, path: str, driver: Driver, above: tuple[Driver, ...]) -> None:
        if driver in self._placed:
            return
        self._placed.add(driver)
        driver._set_place(path)
        if driver.parent is None and above:
            driver.parent = above[-1]

    def _methods(self, path: str, driver: Driver) -> dict[str, Method]:
        try:
            return methods_of(type(driver))
        except ConfigurationError as error:
            self.faults += (TreeFault(path, message) for message in error.faults)
            return {}

    def _fault(self, path: str, message: str) -> None:
        self.faults.append(TreeFault(path, message))


@cache
def _client_names() -> frozenset[str]:
    """Public attributes that every client has; a child of that name could not be reached."""
    from jsnats.client import DriverClient  # here: it takes the client side along, which a unit test does not need

    annotated = {name for base in DriverClient.__mro__ for name in vars(base).get("__annotations__", {})}
    return frozenset(name for name in annotated.union(dir(DriverClient)) if not name.startswith("_"))


def _name_faults(name: str, methods: dict[str, Method]) -> Iterator[str]:
    try:
        check_name(name, "node name")
    except InvalidName as error:
        yield str(error)
    if name in methods:
        yield f"{name!r} is also a method of the driver above it: give the child another name"
    elif name in _client_names():
        yield f"{name!r} is a name of every client: give the child another name"


def _client_faults(driver: Driver) -> Iterator[str]:
    try:
        dotted = driver.client()
    except NotImplementedError as error:
        yield str(error)
        return
    if not isinstance(dotted, str) or "." not in dotted:
        yield f"client() of {type(driver).__name__} must return a dotted path such as 'package.client.ClassName'"


def _length_faults(path: str, methods: dict[str, Method]) -> Iterator[str]:
    longest = max(map(len, methods), default=0)
    if len(path) + 1 + longest > _MAX_PATH:
        yield f"path and method are {len(path) + 1 + longest} bytes long; the limit is {_MAX_PATH}"


def node_records(tree: dict[str, Node]) -> tuple[list[NodeRecord], dict[str, InterfaceRecord]]:
    """Return what is published of a tree: the nodes in its order, and their interfaces by digest."""
    interfaces = {type(node.driver): interface_of(type(node.driver)) for node in tree.values()}
    digests = {cls: interface.digest for cls, interface in interfaces.items()}
    nodes = [_record(node, digests[type(node.driver)]) for node in tree.values()]
    return nodes, {digests[cls]: interface for cls, interface in interfaces.items()}


def _record(node: Node, digest: str) -> NodeRecord:
    cls, client = type(node.driver), node.driver.client()
    return NodeRecord(
        path=node.path,
        client=client,
        interface=digest,
        driver=f"{cls.__module__}.{cls.__qualname__}",
        package=package_of(client),
        description=node.driver.description or _summary(cls),
    )


def _summary(cls: type[Driver]) -> str:
    """What the class's own docstring begins with, to say what a driver is that the configuration does not describe.

    Up to the first full stop or colon: behind a colon stand the parameters, for whoever writes the configuration.
    """
    doc = cls.__doc__ or ""
    if cls is Composite or doc.startswith(f"{cls.__name__}("):  # @dataclass writes that one
        return ""
    paragraph = " ".join(doc.strip().partition("\n\n")[0].split())
    return re.split(r"[.:] |\.$", paragraph, maxsplit=1)[0]
