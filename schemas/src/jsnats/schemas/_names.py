"""Names that become subject tokens: what is allowed, and how a user name with other characters is escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ._errors import InvalidName

NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
RESERVED = frozenset({"lab"})
VISITOR = "@hub"
"""What the names of those end in who come to a site by its hub; no principal of a lab has such a name."""
MAX_DEPTH = 8
MAX_SUBJECT = 512

_USER = re.compile(r"(?:[A-Za-z0-9_-]|=[0-9A-F]{2}){1,126}")
_USERS = frozenset({"user", "holder", "co_holders", "by", "to"})
_VISITOR = "=40hub"
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")


def check_name(value: str, what: str = "name") -> str:
    """Return `value` if it can be one token of a subject, else raise InvalidName saying what is wrong.

    `what` names the thing for the message: "exporter name", "node name".
    """
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise InvalidName(f"{what} {value!r} is not valid: use 1 to 63 of A-Z a-z 0-9 _ - (no dots, no spaces)")
    if value in RESERVED:
        raise InvalidName(f"{what} {value!r} is reserved")
    return value


def escape_user(name: str) -> str:
    """Turn any user name into a token: characters outside the alphabet become `=XX` (hex of their UTF-8 bytes).

    `alice@corp.example` becomes `alice=40corp=2Eexample`.
    """
    token = "".join(chr(b) if NAME.fullmatch(chr(b)) else f"={b:02X}" for b in name.encode())
    if not _USER.fullmatch(token):
        raise InvalidName(f"user name {name!r} is empty or too long")
    if token in RESERVED:
        raise InvalidName(f"user name {name!r} is reserved")
    return token


def unescape_user(token: str) -> str:
    """Return the name that `escape_user` made `token` from, for showing to people."""
    return _ESCAPED.sub(lambda m: bytes.fromhex(m[1].decode()), token.encode()).decode(errors="replace")


def with_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What an answer or an event says, its users by name for people: in records and requests they are tokens."""
    return {key: _named(value) if key in _USERS else value for key, value in fields.items()}


def _named(value: Any) -> Any:
    if isinstance(value, list):
        return [_named(each) for each in value]
    return unescape_user(value) if isinstance(value, str) else value


def is_visitor(token: str) -> bool:
    """Say whether that user comes to a site by its hub: the link on the way may be away for a moment."""
    return token.endswith(_VISITOR)


def is_user_token(token: str) -> bool:
    """Say whether `token` can stand for a user in a subject."""
    return bool(_USER.fullmatch(token))
