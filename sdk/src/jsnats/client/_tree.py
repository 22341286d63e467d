"""Make the tree of clients from what an exporter published.

Which classes may be imported: those of installed distributions that register drivers (`jsnats.drivers`), jsnats' own,
and what JSNATS_ALLOW names (module prefixes, separated by commas; `*` for all). An exporter only names a class; it
must not be able to make a client import anything it likes.
"""

from __future__ import annotations

import importlib
import logging
import os
from functools import cache
from typing import Any

from jsnats.schemas import NodeRecord, TreeRecord

from ._channel import Channel
from ._client import DriverClient, DynamicClient

log = logging.getLogger("jsnats.client")


def client_tree(tree: TreeRecord, channel: Channel, *, trusted: frozenset[str] = frozenset()) -> DriverClient:
    """Return the root client. `trusted` are further top-level modules to import from (`serve()` trusts its own)."""
    clients: dict[str, DriverClient] = {}
    for node in tree.nodes:
        client = client_class(node, trusted)(channel, node)
        clients[node.path] = client
        if node.path:
            parent, _, name = node.path.rpartition(".")
            clients[parent].children[name] = client
    return clients[""]


def client_class(node: NodeRecord, trusted: frozenset[str] = frozenset()) -> type[DriverClient]:
    """The client class of a node if it may be and can be imported, else the dynamic one, with one line of log."""
    module, _, name = node.client.rpartition(".")
    if not _allowed(module, trusted):
        _explain(node, "is not among the installed driver packages (see JSNATS_ALLOW)")
        return DynamicClient
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        _explain(node, f"cannot be loaded ({error})")
        return DynamicClient
    if not (isinstance(found, type) and issubclass(found, DriverClient)):
        _explain(node, "is no DriverClient")
        return DynamicClient
    return found


def _explain(node: NodeRecord, why: str) -> None:
    install = f"; `pip install {node.package}` brings it" if node.package else ""
    log.info(
        "%s: %s %s, its methods are called by their published schemas%s", node.path or "root", node.client, why, install
    )


def _allowed(module: str, trusted: frozenset[str]) -> bool:
    top = module.partition(".")[0]
    if module == "jsnats.client" or top in trusted or top in _installed():
        return True
    named = os.environ.get("JSNATS_ALLOW", "").split(",")
    return any(prefix == "*" or module == prefix or module.startswith(prefix + ".") for prefix in named if prefix)


@cache
def _installed() -> frozenset[str]:
    from importlib.metadata import entry_points

    return frozenset(entry.module.partition(".")[0] for entry in entry_points(group="jsnats.drivers")) - {"jsnats"}
