"""Which exporters are meant: a selector over their labels, `board=rpi4,site in (desk, rack),!broken`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ._errors import ConfigurationError

_SPLIT = re.compile(r",(?![^()]*\))")  # a comma within parentheses belongs to the list
_KEY = r"(?P<key>[\w./-]+)"
_EQUALITY = re.compile(rf"{_KEY}\s*(?P<how>==?|!=)\s*(?P<value>[^\s=!,()]*)")
_SET = re.compile(rf"{_KEY}\s+(?P<how>in|notin)\s*\((?P<values>[^()]*)\)")
_PRESENCE = re.compile(rf"(?P<how>!?)\s*{_KEY}")


@dataclass(frozen=True, slots=True)
class _Term:
    key: str
    values: frozenset[str]
    wanted: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        found = labels.get(self.key)
        present = found is not None if not self.values else found in self.values
        return present == self.wanted


@dataclass(frozen=True, slots=True)
class Selector:
    """What `parse` made of a text; all of its terms must hold.

    `key=value`, `key in (a, b)` and `key` need the label; `key!=value`, `key notin (a, b)` and `!key` also hold for an
    exporter that does not have it.
    """

    text: str
    terms: tuple[_Term, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a selector; an empty one matches everything. Raises ConfigurationError."""
        parts = [part.strip() for part in _SPLIT.split(text)] if text.strip() else []
        return cls(text.strip(), tuple(_term(part, text) for part in parts))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether an exporter with these labels is meant."""
        return all(term.matches(labels) for term in self.terms)

    def __str__(self) -> str:
        return self.text


def _term(part: str, text: str) -> _Term:
    if found := _EQUALITY.fullmatch(part):
        return _Term(found["key"], frozenset({found["value"]}), found["how"] != "!=")
    if (found := _SET.fullmatch(part)) and found["values"].strip():
        values = frozenset(value.strip() for value in found["values"].split(","))
        return _Term(found["key"], values, found["how"] == "in")
    if found := _PRESENCE.fullmatch(part):
        return _Term(found["key"], frozenset(), not found["how"])
    raise ConfigurationError(
        f"{part!r} in selector {text!r}: write key=value, key!=value, key in (a, b), key notin (a, b), key or !key"
    )
