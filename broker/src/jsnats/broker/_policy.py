"""What a lab allows: `policy.yaml` in its directory. Without the file, the defaults below hold for everybody."""

from __future__ import annotations

import difflib
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from jsnats.schemas import ConfigurationError, InvalidName, escape_user

log = logging.getLogger("jsnats.scheduler")

HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one user may ask for. Durations are seconds; `max_waiting` counts his waits and bookings together."""

    max_duration: float = 8 * HOUR
    default_duration: float = HOUR
    max_priority: int = 10
    max_waiting: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Limits for everybody, and for those who have their own."""

    everybody: Limits = Limits()
    users: Mapping[str, Limits] = field(default_factory=dict)

    def of(self, user: str) -> Limits:
        """The limits of a user, who is named as in subjects."""
        return self.users.get(user, self.everybody)


def parse_policy(data: object, source: str = "policy.yaml") -> Policy:
    """The policy that a file says. Raises ConfigurationError with every fault in it, each by its path."""
    faults: list[str] = []
    content = _map(data, "", faults)
    limits = {key: value for key, value in content.items() if key != "users"}
    everybody = _limits(limits, "", Limits(), [*_READ, "users"], faults)
    users: dict[str, Limits] = {}
    for name, own in _map(content.get("users"), "users", faults).items():
        path = f"users.{name}"
        limits_of = _limits(_map(own, path, faults), path, everybody, [*_READ], faults)
        try:
            users[escape_user(str(name))] = limits_of
        except InvalidName as error:
            faults.append(f"{path}: {error}")
    if faults:
        lines = [f"{source}: {each}" for each in faults]
        count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
        raise ConfigurationError("\n".join([f"{count} in {source}:", *lines]), lines)
    return Policy(everybody=everybody, users=users)


class PolicyFile:
    """The policy of a file, read again when the file has changed; a path that is not there says nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._policy = Policy()
        if path:
            self._stamp = _stamp(path)
            self._policy = _load(path)

    def now(self) -> Policy:
        """What holds now. A file that was made wrong is logged, and what held before goes on."""
        if self._path and (stamp := _stamp(self._path)) != self._stamp:
            self._stamp = stamp
            try:
                self._policy = _load(self._path)
                log.info("%s was read again", self._path)
            except ConfigurationError as error:
                log.error("what held before goes on: %s", error)
        return self._policy


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _load(path: Path) -> Policy:
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Policy()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    return parse_policy(data, str(path))


# ---------------------------------------------------------------------- what stands in it


def _map(data: object, path: str, faults: list[str]) -> dict[Any, Any]:
    if data is None:
        return {}
    if isinstance(data, dict):
        return data
    faults.append(_at(path, "must be a map"))
    return {}


def _limits(raw: Mapping[Any, Any], path: str, base: Limits, known: list[str], faults: list[str]) -> Limits:
    found: dict[str, Any] = {}
    for key, value in raw.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in _READ:
            close = difflib.get_close_matches(str(key), known, 1)
            faults.append(_at(where, f"is not known here: use {close[0] if close else ', '.join(known)}"))
            continue
        try:
            found[key] = _READ[key](value)
        except ValueError as error:
            faults.append(_at(where, str(error)))
    made = replace(base, **found)
    if "default_duration" in found and made.default_duration > made.max_duration:
        faults.append(_at(f"{path}.default_duration".strip("."), "is longer than max_duration"))
    return made


def _at(path: str, message: str) -> str:
    return f"{path}: {message}" if path else message


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")


def _duration(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    if isinstance(value, str) and _DURATION.fullmatch(value):
        total = sum(float(part[:-1]) * _UNITS[part[-1]] for part in re.findall(r"[\d.]+[smhd]", value))
        if total > 0:
            return total
    raise ValueError("must be a duration, as in 90s, 30m, 8h or 1h30m")


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("must be a whole number, 0 or more")
    return value


_READ: Final[Mapping[str, Callable[[object], Any]]] = {
    "max_duration": _duration,
    "default_duration": _duration,
    "max_priority": _count,
    "max_waiting": _count,
}
