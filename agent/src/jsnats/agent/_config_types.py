"""From the `type:` of a node to a driver class."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib import metadata
from itertools import chain
from typing import Any

from jsnats.driver import Driver
from jsnats.schemas import ConfigurationError

GROUP = "jsnats.drivers"


def driver_class(name: str) -> type[Driver]:
    """Return the class for an entry point name ("PowerRelay") or a dotted path ("package.module.Class").

    Raises ConfigurationError that says what is installed, or what to install, or that several packages have the name.
    """
    points = _points()
    if name in points:
        found = _import(_only(name, points[name]), name)
    elif "." in name:
        found = _import(name.replace(":", "."), name)
    else:
        raise ConfigurationError(f"driver {name!r} is not installed{suggestion(name, points)}; {_installed(points)}")
    if not (isinstance(found, type) and issubclass(found, Driver)):
        raise ConfigurationError(f"{name} is not a driver class")
    return found


def suggestion(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """` (did you mean 'x'?)`, or nothing if none is close."""
    close = get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def missing_module(error: ImportError, module: str) -> str:
    """Say what to install for an ImportError that the driver package of `module` met."""
    top = module.partition(".")[0]
    if error.name and error.name.partition(".")[0] == top:
        return f"there is no module {error.name}: install the package it comes from, or mend the name"
    package = _package(top)
    what = f"needs the Python module {error.name}" if error.name else f"cannot be imported: {error}"
    return f"{what}: pip install '{package}[agent]'" if package else f"{what}: install it on this host"


@cache
def _points() -> dict[str, list[metadata.EntryPoint]]:
    points: dict[str, list[metadata.EntryPoint]] = {}
    for point in metadata.entry_points(group=GROUP):
        points.setdefault(point.name, []).append(point)
    return points


def _only(name: str, points: list[metadata.EntryPoint]) -> str:
    first, *others = sorted({point.value for point in points})
    if others:
        written = " or ".join(value.replace(":", ".") for value in (first, *others))
        raise ConfigurationError(f"driver {name!r} is in several packages: write {written}")
    return first


def _installed(points: Mapping[str, Any]) -> str:
    return f"installed are {', '.join(sorted(points))}" if points else "no driver package is installed"


def _package(top: str) -> str:
    points = chain.from_iterable(_points().values())
    dists = (point.dist for point in points if point.module.partition(".")[0] == top)
    return next((dist.name for dist in dists if dist is not None), "")


def _import(target: str, name: str) -> object:
    module_name, _, attribute = target.replace(":", ".").rpartition(".")
    try:
        module = importlib.import_module(module_name)
        return getattr(module, attribute)
    except ImportError as error:
        raise ConfigurationError(f"{name}: {missing_module(error, module_name)}") from error
    except AttributeError as error:
        if error.name != attribute or getattr(error.obj, "__name__", "") != module_name:
            raise ConfigurationError(f"{name} cannot be imported: AttributeError: {error}") from error
        names = [each for each in vars(error.obj) if not each.startswith("_")]
        raise ConfigurationError(f"{module_name} has no {attribute}{suggestion(attribute, names)}") from error
    except Exception as error:  # whatever a foreign module raises while it loads is that driver's fault line
        raise ConfigurationError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
