"""Values for the parameters of a published JSON Schema: one that fits, and one that cannot."""

from __future__ import annotations

from typing import Any

from jsnats.schemas import RESOURCE_FORMAT

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": float, "null": None}


def samples(params: dict[str, Any], file: str = "") -> dict[str, Any]:
    """Arguments by name that fit the schema of a method, as few as possible; `file` is the handle of a file.

    Not those that a pattern, or a check of the driver's own, asks for: these are for the author to give.
    """
    found = {name: schema for name, schema in params["properties"].items() if name in params.get("required", ())}
    return {name: _sample(schema, params, file) for name, schema in found.items()}


def misfits(params: dict[str, Any]) -> dict[str, Any]:
    """For each parameter whose schema says a type, a value of another one."""
    found = {name: _misfit(types_of(schema, params)) for name, schema in params["properties"].items()}
    return {name: value for name, value in found.items() if value is not ...}


def types_of(schema: dict[str, Any], root: dict[str, Any]) -> set[str]:
    """JSON types that a schema lets through; all, if it says none."""
    schema = resolved(schema, root)
    if "type" in schema:
        named = schema["type"]
        return set(named) if isinstance(named, list) else {named}
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return set().union(*(types_of(each, root) for each in options))
    return set(TYPES)


def resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """A schema, or what it refers to. Raises KeyError for a reference to nothing."""
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return schema


def _misfit(types: set[str]) -> Any:
    for name, value in (("object", {"no": ["such"]}), ("array", [[["no"]]]), ("string", "no such value")):
        if name not in types:
            return value
    return ...


def _sample(schema: dict[str, Any], root: dict[str, Any], file: str) -> Any:
    schema = resolved(schema, root)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if options := schema.get("enum") or schema.get("examples"):
        return options[0]
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return _sample(options[0], root, file)
    match schema.get("type"):
        case "object":
            return samples({"$defs": root.get("$defs", {}), "properties": {}} | schema, file)
        case "array":
            heads = [_sample(each, root, file) for each in schema.get("prefixItems", ())]
            return heads or [_sample(schema.get("items", {}), root, file)] * schema.get("minItems", 0)
        case "string" if schema.get("contentEncoding") == "base64":
            return b"x"
        case "string" if schema.get("format") == RESOURCE_FORMAT:
            return file
        case "string":
            return "x" * max(1, schema.get("minLength", 1))
        case "boolean":
            return True
        case "integer" | "number":
            return _number(schema)
    return None


def _number(schema: dict[str, Any]) -> Any:
    step = schema.get("multipleOf", 1)
    if "exclusiveMinimum" in schema:
        return schema["exclusiveMinimum"] + step
    if "minimum" in schema:
        return schema["minimum"]
    return min(step, schema.get("maximum", step), schema.get("exclusiveMaximum", 2 * step) - step)
