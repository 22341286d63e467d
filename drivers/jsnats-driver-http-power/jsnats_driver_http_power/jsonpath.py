"""The part of JSON path that finds one value: `meters[0].power`, `switch:0.output`, `a['dotted.name']`, `*`.

A leading `$.` may be there, `*` is the only member of an object whatever its name, and "" the whole document.
"""

from __future__ import annotations

import re
from typing import Any

_STEP = re.compile(r"\.?(?P<name>[^.\[\]'\"]+)|\[(?P<index>\d+)\]|\[(?P<quote>['\"])(?P<quoted>.+?)(?P=quote)\]")


def parse(path: str) -> list[str | int]:
    """Return the steps of a path. Raises ValueError for what is none."""
    rest = path.removeprefix("$")
    steps: list[str | int] = []
    while rest:
        match = _STEP.match(rest)
        if match is None or (not steps and path == rest and rest.startswith(".")):
            raise ValueError(f"{path!r} is no JSON path: write it like meters[0].power")
        steps.append(int(match["index"]) if match["index"] else match["name"] or match["quoted"])
        rest = rest[match.end() :]
    return steps


def find(document: Any, path: str) -> Any:
    """Return the value at a path. Raises LookupError if the document has none there."""
    step: Any
    for step in parse(path):
        if step == "*" and isinstance(document, dict) and len(document) == 1:
            (document,) = document.values()
        elif isinstance(document, dict if isinstance(step, str) else list):
            document = document[step]
        else:
            raise LookupError(step)
    return document
