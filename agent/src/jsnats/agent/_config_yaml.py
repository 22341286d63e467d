"""YAML with positions: plain values, and for each of them the line it stands on.

PyYAML's own constructor forgets where a value came from and takes the last of two equal keys without a word, so the
node graph is walked here. Values in strings are filled in on the way: `${NAME}` from the environment, `${file:/path}`
from a file; `$${` stands for `${`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

Key = tuple[str | int, ...]
"""Where a value stands in its document: ("export", "dut", "config", "host")."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FILL = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELL_TEXT = "hooks"  # scripts: the shell that runs them fills in its own variables
_MIN_SECRET = 4  # a shorter text would blot out parts of ordinary words


class Fault(NamedTuple):
    """One thing wrong in a file. `line` is 0 when it concerns the file as a whole; `where` is dotted or empty."""

    source: Path
    line: int
    where: str
    message: str

    def __str__(self) -> str:
        parts = [f"{self.source}:{self.line}" if self.line else str(self.source), self.where, self.message]
        return ": ".join(part for part in parts if part)


@dataclass
class Faults:
    """Everything found so far. Texts that came from the environment or a file never show in it."""

    found: list[Fault] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)

    def add(self, source: Path, line: int, where: str, message: str) -> None:
        self.found.append(Fault(source, line, where, message))

    def lines(self) -> list[str]:
        """One line for each fault, in the order of the files and of their lines."""
        files = list(dict.fromkeys(fault.source for fault in self.found))
        ordered = sorted(dict.fromkeys(self.found), key=lambda fault: (files.index(fault.source), fault.line))
        return [self._redact(" ".join(str(fault).split())) for fault in ordered]

    def _redact(self, text: str) -> str:
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


@dataclass
class Document:
    """One YAML document: its value, and line and source text by key."""

    source: Path
    faults: Faults
    value: Any = None
    lines: dict[Key, int] = field(default_factory=dict)
    texts: dict[Key, str] = field(default_factory=dict)

    def fault(self, key: Key, message: str) -> None:
        """Note a fault at `key`, or at the nearest thing above it that stands in the file."""
        line = next((self.lines[key[:end]] for end in range(len(key), -1, -1) if key[:end] in self.lines), 0)
        self.faults.add(self.source, line, ".".join(str(part) for part in key if part != "children"), message)


def read_documents(path: Path, faults: Faults) -> list[Document]:
    """Return the documents of a file that could be read; what could not is noted in `faults`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        faults.add(path, 0, "", f"cannot be read: {reason}")
        return []
    documents: list[Document] = []
    loader = _LOADER(text)
    try:
        while loader.check_node():
            documents.append(_document(path, loader, loader.get_node(), faults))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        faults.add(path, mark.line + 1 if mark else 0, "", f"is not valid YAML: {error.problem or error.context}")
    except yaml.YAMLError as error:  # a character that YAML does not allow
        faults.add(path, 0, "", f"is not valid YAML: {error}")
    finally:
        loader.dispose()
    return [document for document in documents if document.value is not None]


def _document(path: Path, loader: Any, node: yaml.Node, faults: Faults) -> Document:
    document = Document(path, faults)
    document.value = _Walk(document, loader).value(node, (), ())
    return document


class _Walk:
    """Turns the nodes of one document into plain values."""

    def __init__(self, document: Document, loader: Any) -> None:
        self._document = document
        self._loader = loader

    def value(self, node: yaml.Node, key: Key, above: tuple[yaml.Node, ...]) -> Any:
        self._document.lines.setdefault(key, node.start_mark.line + 1)
        if any(node is each for each in above):
            self._document.fault(key, "an alias cannot stand inside its own anchor")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._map(node, key, (*above, node))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*key, index), (*above, node)) for index, item in enumerate(node.value)]
        return self._scalar(node, key)

    def _map(self, node: yaml.MappingNode, key: Key, above: tuple[yaml.Node, ...]) -> dict[str, Any]:
        """Keys are taken as they are written: YAML 1.1 would read a node named `on` as true."""
        written = [name for name, _ in node.value if name.tag != "tag:yaml.org,2002:merge"]
        repeated = self._repeated(written)
        self._merge(node, key)
        made: dict[str, Any] = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, yaml.ScalarNode):
                self._document.fault(key, "a key must be plain text")
                continue
            place = (*key, name_node.value)
            self._document.lines[place] = name_node.start_mark.line + 1
            if name_node in repeated:
                self._document.fault(place, "the key stands twice in this map")
            made[name_node.value] = self.value(value_node, place, above)
        return made

    def _repeated(self, names: Iterable[yaml.Node]) -> list[yaml.Node]:
        seen: set[str] = set()
        scalars = [name for name in names if isinstance(name, yaml.ScalarNode)]
        return [name for name in scalars if name.value in seen or seen.add(name.value)]  # type: ignore[func-returns-value]

    def _merge(self, node: yaml.MappingNode, key: Key) -> None:
        try:
            self._loader.flatten_mapping(node)
        except yaml.MarkedYAMLError as error:
            self._document.fault(key, f"<< is not valid: {error.problem}")

    def _scalar(self, node: yaml.Node, key: Key) -> Any:
        self._document.texts[key] = node.value
        value = self._plain(node, key)
        if isinstance(value, str) and "${" in value and key[:1] != (_SHELL_TEXT,):
            return self._fill(value, key)
        return value

    def _plain(self, node: yaml.Node, key: Key) -> Any:
        try:
            return self._loader.construct_object(node)
        except (yaml.MarkedYAMLError, ValueError) as error:  # ValueError: 2024-13-45 looks like a date
            problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else str(error)
            self._document.fault(key, f"cannot be read as YAML: {problem}")
            return None

    def _fill(self, text: str, key: Key) -> str:
        def one(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            found = self._lookup(match[1] if match[2] else "", key)
            if len(found) >= _MIN_SECRET:
                self._document.faults.secrets.add(found)
            return found

        return _FILL.sub(one, text)

    def _lookup(self, name: str, key: Key) -> str:
        if name.startswith("file:"):
            return self._file(name.removeprefix("file:"), key)
        if not _ENV_NAME.fullmatch(name):
            self._document.fault(key, "use ${NAME} or ${file:/path}, and $${ for a plain ${")
        elif name not in os.environ:
            self._document.fault(key, f"environment variable {name} is not set")
        return os.environ.get(name, "")

    def _file(self, name: str, key: Key) -> str:
        path = self._document.source.parent / Path(name).expanduser()
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            self._document.fault(key, f"file {name} cannot be read: {reason}")
            return ""
