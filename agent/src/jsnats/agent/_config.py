"""exporter.yaml: what an agent hosts.

`_config_yaml.py` reads files with positions and fills in `${...}`, `_config_nodes.py` makes the drivers,
`_config_types.py` finds their classes, `_config_files.py` and `_config_hooks.py` read what concerns files and hooks.
Everything wrong in all files is reported at once, each by line and path.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

from jsnats.driver import Driver, check_tree
from jsnats.schemas import ConfigurationError, InvalidName, LeasePolicy, check_name

from ._config_files import file_settings
from ._config_hooks import hooks_of
from ._config_nodes import Builder, Exporter, read_nodes, unknown_key_faults
from ._config_yaml import Document, Faults, Key, read_documents
from ._hooks import Hook, HookName
from ._resources import FileSettings

_KEYS: Final = ["name", "labels", "broker", "lease", "hooks", "cache", "fetch", "export"]
_FOREIGN_KEYS: Final = ["apiVersion", "kind", "metadata"]
_JUMPSTARTER_KEYS: Final = ("endpoint", "token", "tls", "grpcOptions")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """Where the exporter's broker is. `auth` says whether that broker asks for credentials: INFO does not tell."""

    url: str | None = None
    credentials: Path | None = None
    auth: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedExporter:
    """One exporter with its drivers made and checked."""

    name: str
    root: Driver
    source: Path
    labels: dict[str, str] = field(default_factory=dict)
    broker: BrokerSettings = field(default_factory=BrokerSettings)
    lease: LeasePolicy | None = None
    hooks: dict[HookName, Hook] = field(default_factory=dict)
    files: FileSettings = field(default_factory=FileSettings)
    written: Any = field(default=None, repr=False)
    refers_to: frozenset[str] = frozenset()


def load(paths: Sequence[Path], running: Mapping[str, LoadedExporter] | None = None) -> list[LoadedExporter]:
    """Read exporter files, make their drivers, and return the exporters in the order they are written.

    Of those that are `running`, each that is written as before comes back as it is, and what refers to it gets its
    drivers; not one that refers to an exporter that has changed.

    Raises ConfigurationError whose `faults` are lines "file.yaml:12: export.dut.power: message", all that were found;
    the drivers made until then are closed, but for those of exporters that are `running`: to close one may switch off a
    device that the driver which serves it now is using.
    """
    faults = Faults()
    documents = [document for path in paths for document in _documents(path, faults)]
    exporters = [_exporter(document) for document in documents]
    _check_names(exporters)
    kept = _unchanged(exporters, running or {})
    builder = Builder(exporters, {name: each.root for name, each in kept.items()})
    try:
        loaded = [kept.get(exporter.name) or _load(builder, exporter) for exporter in exporters]
    except BaseException:
        builder.close(but=running or ())
        raise
    if faults.found:
        builder.close(but=running or ())
        raise _report(faults.lines(), paths)
    return loaded


def _unchanged(exporters: list[Exporter], running: Mapping[str, LoadedExporter]) -> dict[str, LoadedExporter]:
    same = {
        each.name: found
        for each in exporters
        if (found := running.get(each.name))
        and (found.source, found.written) == (each.document.source, each.document.value)
    }
    while lost := [name for name, found in same.items() if found.refers_to - same.keys()]:
        for name in lost:
            del same[name]
    return same


def _report(lines: list[str], paths: Sequence[Path]) -> ConfigurationError:
    count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
    head = f"{count} in {', '.join(map(str, paths))}:"
    return ConfigurationError("\n".join([head, *lines]), lines)


def _documents(path: Path, faults: Faults) -> list[Document]:
    before = len(faults.found)
    documents = read_documents(path, faults)
    if not documents and len(faults.found) == before:
        faults.add(path, 0, "", "has no exporter in it: write an export map")
    for document in documents:
        if not isinstance(document.value, dict):
            document.fault((), "must be a map with export in it")
    return [document for document in documents if isinstance(document.value, dict)]


def _exporter(document: Document) -> Exporter:
    raw = document.value
    foreign = [key for key in _JUMPSTARTER_KEYS if key in raw]
    for key in foreign:
        document.fault((key,), "is not used here: write broker: {url: ..., credentials: ...}")
    unknown_key_faults(document, (), {key: None for key in raw if key not in foreign}, [*_KEYS, *_FOREIGN_KEYS])
    if raw.get("kind", "ExporterConfig") not in ("ExporterConfig", "Exporter"):
        document.fault(("kind",), "is not the kind of an exporter: use ExporterConfig or leave it out")
    return Exporter(_name(document), document, read_nodes(document))


def _name(document: Document) -> str:
    metadata = _map(document, ("metadata",))
    key: Key = ("name",) if "name" in document.value or "name" not in metadata else ("metadata", "name")
    named = document.value.get("name", metadata.get("name"))
    name = _host_name() if named is None else document.texts.get(key, "") if not isinstance(named, str) else named
    try:
        return check_name(name, "exporter name")
    except InvalidName as error:
        document.fault(key, str(error))
        return name


def _host_name() -> str:
    """First label of the host name, with what a name cannot hold turned into `-`."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().partition(".")[0])[:63]


def _check_names(exporters: list[Exporter]) -> None:
    first: dict[str, Exporter] = {}
    for exporter in exporters:
        other = first.setdefault(exporter.name, exporter)
        if other is not exporter:
            where = f"{other.document.source}:{other.document.lines[()]}"
            exporter.document.fault(("name",), f"exporter {exporter.name!r} is also defined in {where}")


def _load(builder: Builder, exporter: Exporter) -> LoadedExporter:
    document = exporter.document
    root = builder.root(exporter)
    for path, message in check_tree(root)[1]:
        document.fault(_key(exporter, path), message)
    return LoadedExporter(
        name=exporter.name,
        root=root,
        source=document.source,
        labels=_labels(document),
        broker=_broker(document),
        lease=_lease(document),
        hooks=hooks_of(document),
        files=file_settings(document),
        written=document.value,
        refers_to=frozenset(spec.ref.rpartition(":")[0] for spec in exporter.nodes.values()) - {"", exporter.name},
    )


def _key(exporter: Exporter, path: str) -> Key:
    """Where a path of the tree is written; for a child that a driver made itself, below that driver."""
    tokens = path.split(".")
    for end in range(len(tokens), 0, -1):
        if (spec := exporter.nodes.get(".".join(tokens[:end]))) is not None:
            return (*spec.key, *tokens[end:])
    return ("export", *tokens)


def _map(document: Document, key: Key) -> dict[str, Any]:
    value = document.value.get(key[0])
    if value is None or isinstance(value, dict):
        return value or {}
    document.fault(key, "must be a map")
    return {}


def _labels(document: Document) -> dict[str, str]:
    key: Key = ("labels",) if "labels" in document.value else ("metadata", "labels")
    raw = document.value.get("labels") if key == ("labels",) else _metadata(document).get("labels")
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        document.fault(key, "must be a map")
        return {}
    return {name: _label(document, (*key, name), value) for name, value in raw.items()}


def _metadata(document: Document) -> dict[str, Any]:
    value = document.value.get("metadata")
    return value if isinstance(value, dict) else {}


def _label(document: Document, key: Key, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list)) or value is None:
        document.fault(key, "a label must be text")
        return ""
    return document.texts[key]  # `rev: 1.10` is the text 1.10, not the number


def _broker(document: Document) -> BrokerSettings:
    raw = _map(document, ("broker",))
    unknown_key_faults(document, ("broker",), raw, ["url", "credentials", "auth"])
    for name in ("url", "credentials"):
        if not isinstance(raw.get(name, ""), str):
            document.fault(("broker", name), "must be text")
            return BrokerSettings()
    if not isinstance(raw.get("auth", True), bool):
        document.fault(("broker", "auth"), "must be true or false")
        return BrokerSettings()
    credentials = raw.get("credentials")
    return BrokerSettings(
        url=raw.get("url"),
        credentials=document.source.parent / Path(credentials).expanduser() if credentials else None,
        auth=raw.get("auth", True),
    )


def _lease(document: Document) -> LeasePolicy | None:
    value: Any = document.value.get("lease")
    if value is None or value in get_args(LeasePolicy):
        return value  # type: ignore[no-any-return]
    document.fault(("lease",), "must be required or if-held")
    return None
