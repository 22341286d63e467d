"""A published schema in words: type names, signatures, and the help of a method."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jsnats.schemas import RESOURCE_FORMAT, MethodRecord

Schema = Mapping[str, Any]

_NAMES = {"integer": "int", "number": "float", "boolean": "bool", "string": "str", "null": "none", "object": "object"}
_SAMPLES = {"integer": "1", "number": "1.5", "boolean": "true", "string": "text", "array": "'[]'", "object": "'{}'"}


def resolve(schema: Schema, defs: Schema) -> Schema:
    """Follow `$ref`."""
    while "$ref" in schema:
        schema = defs.get(str(schema["$ref"]).rpartition("/")[2], {})
    return schema


def variants(schema: Schema, defs: Schema) -> list[Schema]:
    """The alternatives of a schema; itself when there is only one."""
    schema = resolve(schema, defs)
    found = schema.get("anyOf") or schema.get("oneOf")
    return [each for part in found for each in variants(part, defs)] if found else [schema]


def is_bytes(schema: Schema) -> bool:
    """Say whether a string stands for bytes."""
    return schema.get("contentEncoding") == "base64"


def type_name(schema: Schema, defs: Schema) -> str:
    """A schema as a short type: `int`, `list[str]`, `'a' | 'b'`, `none` for null, `any` for no restriction."""
    if "anyOf" in schema or "oneOf" in schema:
        return " | ".join(dict.fromkeys(type_name(each, defs) for each in variants(schema, defs)))
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    schema = resolve(schema, defs)
    if "enum" in schema or "const" in schema:
        return " | ".join(repr(value) for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if name and kind == "object":
        return name
    if kind == "array":
        return f"list[{type_name(schema.get('items', {}), defs)}]"
    if kind == "string":
        return "bytes" if is_bytes(schema) else _format_name(str(schema.get("format", "str")))
    return _NAMES.get(str(kind), "any")


def _format_name(name: str) -> str:
    return "file" if name == RESOURCE_FORMAT else name


def signature(name: str, method: MethodRecord) -> str:
    """`cycle(wait: float = 2.0) -> str`; a stream has `->*`, a two-way byte stream nothing."""
    defs = method.params.get("$defs", {})
    parts = [_parameter(each, schema, method, defs) for each, schema in method.params.get("properties", {}).items()]
    if rest := method.params.get("x-var-positional"):
        parts.append(f"*args: {type_name(rest, defs)}")
    if isinstance(extra := method.params.get("additionalProperties"), dict):
        parts.append(f"**kwargs: {type_name(extra, defs)}")
    return f"{name}({', '.join(parts)}){_result(method)}"


def _parameter(name: str, schema: Schema, method: MethodRecord, defs: Schema) -> str:
    text = f"{name}: {type_name(schema, defs)}"
    if name in method.params.get("required", []):
        return text
    return f"{text} = {_default(schema)}"


def _default(schema: Schema) -> str:
    return json.dumps(schema["default"]) if "default" in schema else "..."


def _result(method: MethodRecord) -> str:
    if method.kind == "bytes":
        return ""
    return f" {'->*' if method.kind == 'stream' else '->'} {_result_type(method)}"


def _result_type(method: MethodRecord) -> str:
    return type_name(method.result, method.result.get("$defs", {}))


def first_line(doc: str) -> str:
    """The first line of a docstring."""
    return doc.strip().partition("\n")[0]


def method_help(usage: str, name: str, method: MethodRecord) -> str:
    """The help page of a method; `usage` is the command that calls it."""
    defs = method.params.get("$defs", {})
    rows = [_row(each, schema, method, defs) for each, schema in method.params.get("properties", {}).items()]
    if rest := method.params.get("x-var-positional"):
        rows.append(("...", type_name(rest, defs), "any number of them"))
    lines = [f"Usage: {usage}{' [ARGUMENTS]' if rows else ''}", "", f"  {signature(name, method)}"]
    lines += ["", *(f"  {line}".rstrip() for line in method.doc.strip().splitlines())] if method.doc else []
    lines += ["", "Arguments, in this order or as --NAME VALUE:", *_columns(rows)] if rows else []
    word = {"call": "Result", "stream": "Each item", "bytes": "Two-way byte stream"}[method.kind]
    lines += ["", word if method.kind == "bytes" else f"{word}: {_result_type(method)}"]
    lines += ["", f"Example: {' '.join([usage, *_sample(method, defs)])}"]
    return "\n".join(lines)


def _row(name: str, schema: Schema, method: MethodRecord, defs: Schema) -> tuple[str, str, str]:
    need = "required" if name in method.params.get("required", []) else f"default {_default(schema)}"
    about = str(schema.get("description", ""))
    return f"--{name.replace('_', '-')}", type_name(schema, defs), f"{need}{': ' if about else ''}{about}"


def _columns(rows: list[tuple[str, str, str]]) -> list[str]:
    first, second = (max(len(row[index]) for row in rows) for index in (0, 1))
    return [f"  {name:<{first}}  {kind:<{second}}  {need}" for name, kind, need in rows]


def _sample(method: MethodRecord, defs: Schema) -> list[str]:
    properties = method.params.get("properties", {})
    required = method.params.get("required", [])
    words = [_sample_value(properties[name], defs) for name in required if name in properties]
    optional = next((name for name in properties if name not in required), None)
    if not words and optional:
        words = [f"--{optional.replace('_', '-')}", _sample_value(properties[optional], defs)]
    return words


def _sample_value(schema: Schema, defs: Schema) -> str:
    if schema.get("default") not in (None, "", [], {}) and isinstance(schema["default"], (int, float, str)):
        return str(schema["default"]).lower() if isinstance(schema["default"], bool) else str(schema["default"])
    first = variants(schema, defs)[0]
    if "enum" in first:
        return str(first["enum"][0])
    if first.get("format") == RESOURCE_FORMAT:
        return "image.bin"
    return "@file" if is_bytes(first) else _SAMPLES.get(str(first.get("type")), "text")
