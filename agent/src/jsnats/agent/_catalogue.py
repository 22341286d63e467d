"""The drivers that are installed, and what can be read of one: its parameters and methods."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated, Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from jsnats.driver import BASE_FIELDS, Driver, interface_of
from jsnats.schemas import ConfigurationError, InterfaceRecord
from jsnats.sdk.cli import type_name

from ._config_types import GROUP, driver_class


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """An entry point: its name is the `type` of a node. `error` says why it cannot be loaded."""

    name: str
    package: str
    version: str
    summary: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A key of `config`. `doc` is the description of its field, which says its unit."""

    name: str
    type: str
    required: bool
    default: Any = None
    doc: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverDoc:
    """What an author of an exporter file, and a user, want to know of a driver class."""

    name: str
    type: str
    client: str
    doc: str
    parameters: list[Parameter]
    interface: InterfaceRecord


def installed() -> list[Installed]:
    """All registered drivers by name. One that cannot be loaded is among them."""
    return sorted(map(_installed, metadata.entry_points(group=GROUP)), key=lambda each: each.name)


def _installed(point: metadata.EntryPoint) -> Installed:
    summary = error = ""
    try:
        summary = _summary(driver_class(point.value.replace(":", ".")))  # several may have the name
    except ConfigurationError as raised:
        error = str(raised)
    package, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
    return Installed(name=point.name, package=package, version=version, summary=summary, error=error)


def driver_doc(name: str) -> DriverDoc:
    """Read a driver class by its entry point or dotted path. Raises ConfigurationError as an exporter file would."""
    cls = driver_class(name)
    fields: dict[str, FieldInfo] = getattr(cls, "__pydantic_fields__", {})
    return DriverDoc(
        name=cls.__name__,
        type=f"{cls.__module__}.{cls.__qualname__}",
        client=cls.client(),
        doc=doc_of(cls),
        parameters=[_parameter(name, field) for name, field in fields.items() if name not in BASE_FIELDS],
        interface=interface_of(cls),
    )


def doc_of(cls: type[Driver]) -> str:
    """The class's own docstring, "" if only @dataclass has written one."""
    doc = vars(cls).get("__doc__") or ""
    return "" if doc.startswith(f"{cls.__name__}(") else inspect.cleandoc(doc)


def _summary(cls: type[Driver]) -> str:
    """The first sentence, on however many lines it stands."""
    paragraph = " ".join(doc_of(cls).partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].removesuffix(".")


def _parameter(name: str, field: FieldInfo) -> Parameter:
    required = field.is_required()
    default = None if required else field.get_default(call_default_factory=True, validated_data={})
    return Parameter(
        name=name,
        type=_type(field),
        required=required,
        default=None if default is PydanticUndefined else to_jsonable_python(default, fallback=repr),
        doc=field.description or "",
    )


def _type(field: FieldInfo) -> str:
    hint: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    try:
        schema = TypeAdapter(hint).json_schema()
    except PydanticUserError:  # a type of Python's own, which only code can pass
        return inspect.formatannotation(field.annotation)
    return type_name(schema, schema.get("$defs", {}))
