"""How long and how much of it streams keep, where a lab wants it otherwise than the table of jsnats.schemas.

A stream that was given a size has that; the others share what is left of the store, as before in proportion to their
shares. Buckets always have theirs: without room in them nothing works.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jsnats.schemas import BLOBS, CONSOLE, EVENTS, LOGS, RESULTS, ConfigurationError, StreamSpec
from jsnats.sdk import size_text

KINDS = {"events": EVENTS, "logs": LOGS, "console": CONSOLE, "results": RESULTS, "blobs": BLOBS}
LEAST = 0.1
"""What must be left of its share for a stream that was given no size."""
_AGES = {"m": 60, "h": 3600, "d": 86_400}
_SIZES = {"M": 10**6, "G": 10**9, "T": 10**12}
_SETTING = re.compile(r"(?:(\d+)([mhd]))?(?::(\d+)([MGT]))?")


@dataclass(frozen=True, slots=True)
class Keep:
    """What a stream keeps: seconds and bytes, 0 for what the table says."""

    age_s: int = 0
    size: int = 0


Retention = Mapping[str, Keep]
"""By kind, one of KINDS."""
AS_TABLE: Retention = {}


def parse_setting(text: str) -> tuple[str, Keep]:
    """Read `events=365d:5G`, `events=365d`, `events=:5G` or `events=default`. Raises ConfigurationError."""
    kind, _, value = text.partition("=")
    if kind not in KINDS:
        raise ConfigurationError(f"{text!r} names no stream: use one of {', '.join(KINDS)}")
    found = _SETTING.fullmatch(value)
    if value == "default":
        return kind, Keep()
    if not value or not found:
        raise ConfigurationError(f"{text!r} is no retention: write it like {kind}=30d, {kind}=:5G or {kind}=30d:5G")
    keep = Keep(int(found[1] or 0) * _AGES[found[2] or "m"], int(found[3] or 0) * _SIZES[found[4] or "M"])
    if kind == "blobs" and keep.age_s:
        raise ConfigurationError("files go 30 days after their last use: give blobs a size only, as in blobs=:5G")
    if not (keep.age_s or keep.size):
        raise ConfigurationError(f"{text!r} keeps nothing: write {kind}=default for what it was at first")
    return kind, keep


def limits(spec: StreamSpec, total_bytes: int, retention: Retention) -> tuple[int, int]:
    """Bytes and seconds that a stream keeps in a store of that size; 0 s is for ever.

    Raises ConfigurationError when the sizes that were given leave too little for the others.
    """
    kind = next((name for name, each in KINDS.items() if each is spec), "")
    keep = retention.get(kind, Keep())
    factor = _factor(total_bytes, retention) if kind else 1.0
    return keep.size or int(total_bytes * spec.share * factor), keep.age_s or spec.max_age_s


def _factor(total_bytes: int, retention: Retention) -> float:
    """What a stream without a size of its own has, as a part of its share."""
    given = {kind: keep.size for kind, keep in retention.items() if keep.size}
    room = sum(spec.share for spec in KINDS.values()) * total_bytes - sum(given.values())
    others = sum(spec.share for kind, spec in KINDS.items() if kind not in given) * total_bytes
    if room < others * LEAST:
        told = ", ".join(f"{kind} {size_text(size)}" for kind, size in given.items())
        raise ConfigurationError(
            f"{told}: too much for a store of {size_text(total_bytes)}, with room for the others: "
            "choose a larger --store-size of the broker, or smaller sizes"
        )
    return room / others if others else 1.0


def losses(spec: StreamSpec, size: int, age_s: int, used: int, oldest_s: float | None) -> Iterable[str]:
    """What a stream of `used` bytes will lose when it keeps so much and so long, a line each."""
    if used > size and spec.discard_new:
        yield f"{spec.name} holds {size_text(used)}: nothing new fits before it is down to {size_text(size)}"
    elif used > size:
        yield f"{spec.name}: the oldest {size_text(used - size)} of {size_text(used)} go"
    if age_s and oldest_s and oldest_s > age_s:
        yield f"{spec.name}: all that is older than {age_text(age_s)} goes, the oldest is {age_text(oldest_s)}"


def age_text(seconds: float) -> str:
    """`3d 4h`, `2h 5m`, `4m 1s`, without what is zero in the end."""
    days, rest = divmod(int(seconds), 86_400)
    hours, rest = divmod(rest, 3600)
    parts = ((days, "d"), (hours, "h")) if days else ((hours, "h"), (rest // 60, "m")) if hours else ()
    parts = parts or ((rest // 60, "m"), (rest % 60, "s"))
    return " ".join(f"{count}{unit}" for count, unit in parts if count) or "0s"
