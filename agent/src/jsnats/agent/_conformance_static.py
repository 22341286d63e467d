"""What can be seen of a driver without calling it: its example, schemas, client class and package."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from jsnats.driver import Driver, Method, Node, build_tree, interface_of
from jsnats.schemas import NAME, ConfigurationError

from ._config import load
from ._config_types import GROUP
from ._samples import TYPES

EXAMPLE = Path("examples/exporter.yaml")


def example_faults(driver: Driver) -> list[str]:
    """The example of the package loads, and has a driver of this class in it."""
    if (sources := _sources(type(driver))) is None:
        return []
    path = sources / EXAMPLE
    if not path.is_file():
        return [f"{path} is missing: write an exporter with this driver in it"]
    try:
        roots = [each.root for each in load([path])]
    except ConfigurationError as error:
        return error.faults
    if type(driver) not in {type(node.driver) for root in roots for node in build_tree(root).values()}:
        return [f"{path} has no {type(driver).__name__} in it: show how it is configured"]
    return []


def schema_faults(driver: Driver) -> list[str]:
    """Class and methods have docstrings, hints for all that travels, names that are tokens, and valid schemas."""
    faults = []
    for node in build_tree(driver).values():
        cls = type(node.driver)
        doc = cls.__doc__ or ""
        if not doc.strip() or doc.startswith(f"{cls.__name__}("):  # @dataclass writes that one
            faults.append(f"{cls.__name__}: has no docstring: say what it drives, and its parameters with their units")
        faults += (fault for method in node.methods.values() for fault in _method_faults(node, method))
        try:
            json.dumps(json.loads(interface_of(cls).encode()), allow_nan=False)
        except ValueError as error:
            faults.append(f"{cls.__name__}: its interface is not JSON: {error}")
    return faults


def _method_faults(node: Node, method: Method) -> Iterator[str]:
    where = f"{type(node.driver).__name__}.{method.name}"
    if not method.record.doc:
        yield f"{where}: has no docstring: say what it does, its units and what it raises"
    signature = inspect.signature(inspect.unwrap(getattr(type(node.driver), method.name)))
    parameters = list(signature.parameters.values())[1:]
    yield from (f"{where}: parameter {each.name!r} has no type" for each in parameters if each.annotation is each.empty)
    if signature.return_annotation is signature.empty:
        yield f"{where}: has no type of its result: write -> None if there is none"
    yield from (
        f"{where}: {each!r} is no name" for each in (method.name, *signature.parameters) if not NAME.match(each)
    )
    for what in ("params", "result"):
        schema = getattr(method.record, what)
        yield from (f"{where}: the schema of its {what}: {fault}" for fault in invalid(schema, schema))


def invalid(schema: Any, root: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a JSON Schema: types, references and required properties that there are not."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield f"{schema!r} is no schema"
        return
    named = schema.get("type", [])
    if unknown := [each for each in ([named] if isinstance(named, str) else named) if each not in TYPES]:
        yield f"no type {unknown[0]!r}"
    reference = schema.get("$ref", "")
    if reference and reference.removeprefix("#/$defs/") not in root.get("$defs", {}):
        yield f"nothing at {reference}"
    properties = schema.get("properties", {})
    yield from (
        f"{each!r} is required and no property" for each in schema.get("required", ()) if each not in properties
    )
    below = [*properties.values(), *schema.get("$defs", {}).values()]
    below += (each for key in ("anyOf", "oneOf", "allOf", "prefixItems") for each in schema.get(key, ()))
    below += (schema[key] for key in ("items", "additionalProperties", "x-var-positional") if key in schema)
    for each in below:
        yield from invalid(each, root)


_IMPORT = """
import importlib, sys
client, driver = sys.argv[1:]
module, _, name = client.rpartition(".")
found = getattr(importlib.import_module(module), name)
from jsnats.client import DriverClient
assert issubclass(found, DriverClient), f"{client} is no DriverClient"
loaded = [each for each in (driver, "jsnats.driver") if each in sys.modules]
assert not loaded, f"{module} loads {loaded[0]}, which a client does without"
"""


def client_faults(driver: Driver) -> list[str]:
    """The client class can be imported where neither the driver's module nor `jsnats.driver` is."""
    client = type(driver).client()
    command = [sys.executable, "-c", _IMPORT, client, type(driver).__module__]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return [f"{client}: {done.stderr.strip().splitlines()[-1]}"] if done.returncode else []


def package_faults(driver: Driver) -> list[str]:
    """An entry point leads to the class under its name, the package says that it is typed, README.md is there."""
    cls = type(driver)
    faults = []
    if not any(_leads_to(point, cls) for point in _points(cls)):
        faults.append(f'no entry point: [project.entry-points."{GROUP}"] {cls.__name__} = "{_written(cls)}"')
    if not (_package(cls) / "py.typed").is_file():
        faults.append(f"{_package(cls) / 'py.typed'} is missing: without it the hints of the package are not used")
    if (sources := _sources(cls)) is not None and not (sources / "README.md").is_file():
        faults.append(f"{sources / 'README.md'} is missing")
    return faults


def _written(cls: type[Driver]) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _points(cls: type[Driver]) -> list[metadata.EntryPoint]:
    """Of the sources if they are here, which may be newer than what is installed, and of what is installed."""
    sources = _sources(cls)
    project = tomllib.loads((sources / "pyproject.toml").read_text(encoding="utf-8"))["project"] if sources else {}
    written = project.get("entry-points", {}).get(GROUP, {})
    own = [metadata.EntryPoint(name, value, GROUP) for name, value in written.items()]
    return own or list(metadata.entry_points(group=GROUP))


def _leads_to(point: metadata.EntryPoint, cls: type[Driver]) -> bool:
    if point.name != cls.__name__ or point.module.partition(".")[0] != cls.__module__.partition(".")[0]:
        return False
    return getattr(import_module(point.module), point.attr, None) is cls


def _package(cls: type[Driver]) -> Path:
    """The folder of the outermost package: not of a namespace, which has no file."""
    names = cls.__module__.split(".")
    modules = (sys.modules.get(".".join(names[:end])) for end in range(1, len(names) + 1))
    return Path(next(each.__file__ for each in modules if each and each.__file__)).parent


def _sources(cls: type[Driver]) -> Path | None:
    """The folder of the distribution, None if the package was installed from a wheel."""
    above = _package(cls).parent
    top = above.parent if above.name == "src" else above
    return top if (top / "pyproject.toml").is_file() else None
