"""JSON Schema and a validator from the type hints of a function.

pydantic makes both from the same hints, so what is published is what is checked. Bytes are base64 in JSON, and the
schema says so (`contentEncoding`).
"""

from __future__ import annotations

import base64
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

from pydantic import ConfigDict, Field, create_model
from pydantic.errors import PydanticUserError
from pydantic.experimental.arguments_schema import generate_arguments_schema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaWarningKind
from pydantic_core import CoreConfig, SchemaValidator
from pydantic_core.core_schema import BytesSchema

from jsnats.schemas import ConfigurationError

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_CONFIG = ConfigDict(val_json_bytes="base64", ser_json_bytes="base64")


class _Schema(GenerateJsonSchema):
    # A default that JSON cannot say is left out; pydantic would warn.
    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"non-serializable-default"}  # noqa: RUF012 - as its base

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def encode_default(self, dft: Any) -> Any:
        return base64.b64encode(dft).decode() if isinstance(dft, bytes) else super().encode_default(dft)

    def bytes_schema(self, schema: BytesSchema) -> dict[str, Any]:
        return {"type": "string", "contentEncoding": "base64"}


def signature_of(func: Callable[..., Any], owner: type) -> inspect.Signature:
    """Signature of a method without `self`, hints resolved, `Any` for a missing one.

    Raises ConfigurationError naming the class, the method and the hint that cannot be resolved.
    """
    raw = inspect.unwrap(func)
    where = f"{owner.__qualname__}.{raw.__name__}"
    try:
        hints = get_type_hints(raw, localns={owner.__name__: owner}, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"{where}: type hint {error.name!r} is not known at run time: import it at the top of the module"
        ) from error
    except (TypeError, SyntaxError, AttributeError) as error:
        raise ConfigurationError(f"{where}: a type hint cannot be evaluated: {error}") from error
    parameters = list(inspect.signature(raw).parameters.values())
    if not parameters or parameters[0].kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
        raise ConfigurationError(f"{where}: the first parameter must be self")
    return inspect.Signature(
        [parameter.replace(annotation=hints.get(parameter.name, Any)) for parameter in parameters[1:]],
        return_annotation=hints.get("return", Any),
    )


def validator_of(signature: inspect.Signature, where: str) -> SchemaValidator:
    """Validator that turns a list, a map or JSON into (args, kwargs) for a call."""

    def stub() -> None: ...

    # generate_arguments_schema reads a function; this one carries the resolved hints and no `self`.
    stub.__signature__ = signature  # type: ignore[attr-defined]
    stub.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    try:
        schema: Any = generate_arguments_schema(stub, schema_type="arguments", config=_CONFIG)
    except PydanticUserError as error:
        raise _untravelled(error, where) from error
    for argument in _arguments(schema):
        if argument.get("mode") == "positional_only":
            argument["mode"] = "positional_or_keyword"  # callers may name every argument; `bind` puts them back
    # Prebuilt validators of nested models would bring their own idea of bytes back in.
    return SchemaValidator(_with_base64(schema), config=CoreConfig(val_json_bytes="base64"), _use_prebuilt=False)


def _with_base64(schema: Any) -> Any:
    """A copy of a core schema in which the config of every nested model reads bytes from JSON as base64."""
    if isinstance(schema, (list, tuple)):
        return type(schema)(map(_with_base64, schema))
    if not isinstance(schema, dict):
        return schema
    copy = {key: _with_base64(value) for key, value in schema.items()}
    if schema.get("type") in ("model", "dataclass", "typed-dict"):
        copy["config"] = {**copy.get("config", {}), "val_json_bytes": "base64"}
    return copy


def _arguments(schema: dict[str, Any]) -> list[dict[str, Any]]:
    inner = schema["schema"] if schema["type"] == "definitions" else schema
    arguments: list[dict[str, Any]] = inner["arguments_schema"]
    return arguments


def params_schema(signature: inspect.Signature, where: str) -> dict[str, Any]:
    """JSON Schema of the arguments: an object with the properties in positional order.

    `*args` appears as `x-var-positional`, the schema of one item; `**kwargs` as `additionalProperties`.
    """
    parameters = signature.parameters.values()
    made = _json_schema({f"p{index}": _field(each) for index, each in enumerate(parameters)}, "validation", where)
    properties: dict[str, Any] = made.get("properties", {})
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    for parameter in parameters:
        if parameter.kind in _VARIADIC:
            item = properties.pop(parameter.name)
            item.pop("default", None)
            positional = parameter.kind is inspect.Parameter.VAR_POSITIONAL
            schema["x-var-positional" if positional else "additionalProperties"] = item
    return schema | {key: made[key] for key in ("required", "$defs") if key in made}


def result_schema(annotation: Any, where: str) -> dict[str, Any]:
    """JSON Schema of a result as it travels; {} for `Any`."""
    made = _json_schema({"result": (annotation, ...)}, "serialization", where)
    schema: dict[str, Any] = made["properties"]["result"]
    return schema | ({"$defs": made["$defs"]} if "$defs" in made else {})


def _field(parameter: inspect.Parameter) -> tuple[Any, Any]:
    # The field has a made-up name and the real one as alias: `schema`, `copy` and `_x` cannot be names of fields.
    default = None if parameter.kind in _VARIADIC else parameter.default
    hint: Any = parameter.annotation
    return Annotated[hint, Field(alias=parameter.name)], ... if default is inspect.Parameter.empty else default


def _json_schema(fields: dict[str, Any], mode: JsonSchemaMode, where: str) -> dict[str, Any]:
    try:
        model = create_model("Arguments", __config__=_CONFIG, **fields)
        return model.model_json_schema(mode=mode, schema_generator=_Schema)
    except PydanticUserError as error:
        raise _untravelled(error, where) from error


def _untravelled(error: PydanticUserError, where: str) -> ConfigurationError:
    reason = str(error.message).partition("\n")[0].partition(". Set `arbitrary_types_allowed")[0]
    return ConfigurationError(f"{where}: {reason}: use plain types, pydantic models or dataclasses")
