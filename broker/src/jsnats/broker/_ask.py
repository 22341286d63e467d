"""The fields of a request, checked one by one. Each raises InvalidArgument that names the field."""

from __future__ import annotations

import re
from typing import Any

from jsnats.schemas import ConfigurationError, InvalidArgument, Selector, escape_user, is_user_token, unescape_user

MAX_TEXT = 500
MAX_BOARDS = 64
MAX_TEXTS = 5000
"""Characters of all items together, enough for MAX_BOARDS by name: requests stand in the small bucket of the leases."""
_ID = re.compile(r"[0-9a-f]{16}")
_LAST = 1e11
"""Unix time: anything beyond is no date of ours."""

Fields = dict[str, Any]


def lease_id(fields: Fields) -> str:
    """The id of a lease, which names a record."""
    value = fields.get("id")
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InvalidArgument("`id` of a lease is 16 lower-case hex digits")
    return value


def number(fields: Fields, name: str) -> float | None:
    """A number from 0 on, None if it is not there."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidArgument(f"`{name}` is a number")
    if not 0 <= value <= _LAST:  # compared as it is: an integer may be too big for a float
        raise InvalidArgument(f"`{name}` is from 0 to {_LAST:g}")
    return float(value)


def needed(fields: Fields, name: str) -> float:
    """A number that must be there."""
    value = number(fields, name)
    if value is None:
        raise InvalidArgument(f"`{name}` is missing")
    return value


def whole(fields: Fields, name: str) -> int:
    """An integer, 0 if it is not there."""
    value = fields.get(name)
    if value is None:
        return 0
    if type(value) is not int or abs(value) > 10**6:
        raise InvalidArgument(f"`{name}` is a whole number")
    return value


def text(fields: Fields, name: str) -> str:
    """One line for people, empty if it is not there."""
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidArgument(f"`{name}` is text")
    return "".join(each for each in value if each.isprintable())[:MAX_TEXT]


def texts(fields: Fields, name: str) -> list[str]:
    """A list of text, at most MAX_BOARDS."""
    value = fields.get(name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidArgument(f"`{name}` is a list of text")
    if len(value) > MAX_BOARDS or any(len(each) > MAX_TEXT for each in value) or sum(map(len, value)) > MAX_TEXTS:
        raise InvalidArgument(
            f"`{name}` has at most {MAX_BOARDS} items of at most {MAX_TEXT} characters, and {MAX_TEXTS} altogether"
        )
    return value


def selectors(fields: Fields) -> list[str]:
    """Selectors that can be read, at least one."""
    found = texts(fields, "selectors")
    if not found:
        raise InvalidArgument("`selectors` is empty: write one for each exporter, `` for any")
    try:
        return [str(Selector.parse(each)) for each in found]
    except ConfigurationError as error:
        raise InvalidArgument(str(error)) from error


def user(value: object) -> str:
    """The token of a user, who is named by it or as people name him."""
    if not isinstance(value, str):
        raise InvalidArgument("a user's name is text")
    if not unescape_user(value).isprintable():
        raise InvalidArgument("a user's name is one line of text")
    try:
        return value if is_user_token(value) else escape_user(value)
    except ConfigurationError as error:
        raise InvalidArgument(str(error)) from error
