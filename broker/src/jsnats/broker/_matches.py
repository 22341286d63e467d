"""Which exporters a selector means: found once, then kept up with each change of labels.

With 10 000 exporters, looking through all of them for each of 200 who wait takes seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches

from jsnats.schemas import Selector

MAX_KEPT = 512
_SHOWN_KEYS, _SHOWN_VALUES = 8, 6


class Matches:
    """The labels of all exporters, and the names that each of the selectors asked last means."""

    def __init__(self) -> None:
        self._labels: dict[str, dict[str, str]] = {}
        self._having: dict[tuple[str, str], dict[str, None]] = {}
        self._kept: dict[str, tuple[Selector, dict[str, None]]] = {}

    def put(self, name: str, labels: Mapping[str, str] | None) -> None:
        """An exporter has these labels now; None: it is gone. `name` is a label that every exporter has."""
        for label in self._labels.pop(name, {}).items():
            self._having[label].pop(name)
            if not self._having[label]:
                del self._having[label]
        if labels is not None:
            self._labels[name] = {"name": name, **labels}
            for label in self._labels[name].items():
                self._having.setdefault(label, {})[name] = None
        for selector, names in self._kept.values():
            if labels is not None and selector.matches(self._labels[name]):
                names[name] = None
            else:
                names.pop(name, None)

    def names(self, text: str) -> Collection[str]:
        """The exporters that a selector means. Raises ConfigurationError for one that cannot be read."""
        if text in self._kept:
            self._kept[text] = self._kept.pop(text)  # the last used is the last to be dropped
            return self._kept[text][1]
        selector = Selector.parse(text)
        if len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        names = {name: None for name in self._candidates(selector) if selector.matches(self._labels[name])}
        self._kept[text] = selector, names
        return names

    def _candidates(self, selector: Selector) -> Collection[str]:
        """Those that have the rarest of the labels that it names, or everybody."""
        wanted = [term for term in selector.terms if term.wanted and term.values]
        found = [[name for value in term.values for name in self._having.get((term.key, value), ())] for term in wanted]
        return min(found, key=len, default=self._labels)


def why_none(selectors: Sequence[str], chosen: Sequence[str | None], labels: Iterable[Mapping[str, str]]) -> str:
    """One line for who asked for what no exporter is: what exists, and what he may have meant."""
    missing = Selector.parse(next(text for text, name in zip(selectors, chosen, strict=True) if name is None))
    known: dict[str, Counter[str]] = {}
    for each in labels:
        for key, value in each.items():
            known.setdefault(key, Counter())[value] += 1
    if not known:
        return f"no exporter of the lab fits {missing.text!r}: no exporter of this lab has a label yet"
    hint = " or ".join(_meant(missing, known))
    told = f" (did you mean {hint}?)" if hint else ""
    return f"no exporter of the lab fits {missing.text!r}{told}: there are {_shown(known)}"


def _meant(selector: Selector, known: Mapping[str, Mapping[str, int]]) -> list[str]:
    found: list[str] = []
    for term in selector.terms:
        key = term.key if term.key in known else next(iter(get_close_matches(term.key, known, 1)), None)
        if key is None or not term.wanted:
            continue
        if key != term.key:
            found += [f"{key}={value}" if value else key for value in sorted(term.values) or [""]]
        for value in sorted(term.values - set(known[key])):
            found += [f"{key}={close}" for close in get_close_matches(value, known[key], 2)]
    return found


def _shown(known: Mapping[str, Mapping[str, int]]) -> str:
    keys = sorted(known)
    shown = [f"{key}={'|'.join(_some(sorted(known[key]), _SHOWN_VALUES))}" for key in keys[:_SHOWN_KEYS]]
    return ", ".join([*shown, *(["..."] if len(keys) > _SHOWN_KEYS else [])])


def _some(values: list[str], count: int) -> list[str]:
    return [*values[:count], "..."] if len(values) > count else values


def close_to(name: str, names: Iterable[str]) -> str:
    """A guess at what was meant, for the end of a sentence; empty if there is none."""
    found = get_close_matches(name, list(names), 1)
    return f": did you mean {found[0]!r}?" if found else ""
