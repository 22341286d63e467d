from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jsnats.schemas import InvalidArgument, MethodRecord
from jsnats.sdk.cli._arguments import parse_arguments
from jsnats.sdk.cli._describe import method_help, signature

DEFS = {"Point": {"type": "object", "properties": {"x": {"type": "integer"}}}}


def method(required: tuple[str, ...] = (), **properties: Any) -> MethodRecord:
    """A method with these arguments."""
    return MethodRecord(
        kind="call",
        doc="Do it.\n\nSlowly.",
        params={"properties": properties, "required": list(required), "additionalProperties": False, "$defs": DEFS},
        result={"type": "string"},
    )


INT = {"type": "integer"}
TEXT = {"type": "string"}
BYTES = {"type": "string", "contentEncoding": "base64"}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (INT, "-5", -5),
        (INT, "0x1f", 31),
        ({"type": "number"}, "2", 2.0),
        ({"type": "boolean"}, "off", False),
        (TEXT, "5", "5"),
        (TEXT, "a=b", "a=b"),
        (BYTES, "ab", b"ab"),
        ({"anyOf": [INT, {"type": "null"}]}, "null", None),
        ({"anyOf": [TEXT, INT]}, "7", 7),
        ({"anyOf": [{"type": "number"}, {"type": "string", "pattern": "."}]}, "0.10", "0.10"),
        ({"type": "array", "items": INT}, "[1, 2]", [1, 2]),
        ({"$ref": "#/$defs/Point"}, '{"x": 1}', {"x": 1}),
        ({"enum": ["a", 2]}, "2", 2),
        ({}, "plain", "plain"),
        ({}, "[1]", [1]),
        ({"type": "string", "format": "duration"}, "1.5", 1.5),
    ],
)
def test_value(schema: dict[str, Any], text: str, value: Any) -> None:
    """Each type of a schema reads its values from text, positional and by name."""
    assert parse_arguments([text], method(p=schema), "m").args == [value]
    read = parse_arguments([f"--p={text}"], method(p=schema), "m").kwargs["p"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("words", "args", "kwargs"),
    [
        (["1", "--dry-run"], [1], {"dry_run": True}),
        (["--no-dry-run", "n=3"], [], {"n": 3, "dry_run": False}),
        (["--dry_run=yes"], [], {"dry_run": True}),
        (["--n=4"], [], {"n": 4}),
    ],
)
def test_names(words: list[str], args: list[Any], kwargs: dict[str, Any]) -> None:
    """Arguments are named by --name value, --name=value, name=value and flags, with - for _."""
    found = parse_arguments(words, method(n=INT, dry_run={"type": "boolean"}), "m")
    assert (found.args, found.kwargs) == (args, kwargs)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "missing n (int)"),
        (["x"], "n takes int, not 'x'"),
        (["1", "2"], "'2' is one argument too many: it takes n"),
        (["1", "--n", "2"], "n is given twice"),
        (["--m", "2"], "there is no argument 'm': it takes n"),
        (["--n"], "--n needs a value (int)"),
    ],
)
def test_refusals(words: list[str], message: str) -> None:
    """What does not fit is refused with the name and the type of the argument."""
    with pytest.raises(InvalidArgument) as caught:
        parse_arguments(words, method(required=("n",), n=INT), "m")
    assert str(caught.value) == f"m: {message}"


def test_bytes_from_a_file(tmp_path: Path) -> None:
    """@file is the content of a file for bytes and for JSON, and the text itself for text."""
    (tmp_path / "f").write_bytes(b"[1]")
    word = f"@{tmp_path / 'f'}"
    assert parse_arguments([word], method(p=BYTES), "m").args == [b"[1]"]
    assert parse_arguments([word], method(p={"type": "array"}), "m").args == [[1]]
    assert parse_arguments([word], method(p=TEXT), "m").args == [word]
    with pytest.raises(InvalidArgument, match="cannot read"):
        parse_arguments([f"@{tmp_path / 'g'}"], method(p=BYTES), "m")


def test_variadic() -> None:
    """*args and **kwargs take what the named arguments leave, by their own schema."""
    record = MethodRecord(
        kind="call",
        params={"properties": {"a": TEXT}, "x-var-positional": INT, "additionalProperties": {"type": "number"}},
    )
    found = parse_arguments(["x", "1", "2", "--gain", "3"], record, "m")
    assert (found.args, found.kwargs) == (["x", 1, 2], {"gain": 3.0})
    assert signature("m", record) == "m(a: str = ..., *args: int, **kwargs: float) -> any"


def test_help() -> None:
    """The help of a method has its documentation, arguments with types and defaults, result and an example."""
    text = method_help("jsnats call b.m", "m", method(required=("n",), n=INT, name=TEXT | {"default": "x"}))
    for part in (
        "Slowly.",
        "--n     int  required",
        '--name  str  default "x"',
        "Result: str",
        "Example: jsnats call b.m 1",
    ):
        assert part in text
