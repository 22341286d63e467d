"""The headers of a call, read and checked before anything else happens to it."""

from __future__ import annotations

import difflib
import re
import secrets
import time
from collections.abc import Iterable, Mapping

from jsnats.driver import Method, Node
from jsnats.schemas import (
    DeadlineExceeded,
    InvalidArgument,
    MethodNotFound,
    OutcomeUnknown,
    VersionMismatch,
    headers as h,
)

from ._table import CallTable

_CALL_ID = re.compile(r"[0-9a-f]{32}")

Headers = Mapping[str, str]


def number(text: str, what: str) -> int:
    """The number that a header holds, not negative and below 2^63. Raises InvalidArgument naming the header."""
    if len(text) > 18 or not (text.isascii() and text.isdigit()):
        raise InvalidArgument(f"{what} is a whole number, not {text[:20]!r}")
    return int(text)


def call_id(headers: Headers) -> str:
    """The id of a call, a new one if it brings none. Raises VersionMismatch, InvalidArgument."""
    version = headers.get(h.VERSION)
    if version is not None and version != h.PROTOCOL:
        theirs = number(version, h.VERSION)
        side = "the exporter" if theirs > int(h.PROTOCOL) else "the client"
        raise VersionMismatch(f"client speaks protocol {theirs}, exporter {h.PROTOCOL}: upgrade {side}")
    named = headers.get(h.CALL) or secrets.token_hex(16)
    if not _CALL_ID.fullmatch(named):
        raise InvalidArgument(f"{h.CALL} is 32 lower-case hex digits")
    return named


def check_retry(headers: Headers, instance: str, since: float, table: CallTable) -> None:
    """Raise OutcomeUnknown for a call that was sent before and may have run where nobody remembers it.

    `since` is when this instance took the exporter's name, on the monotonic clock. The name is exclusive: whatever was
    sent after that can only have reached us.
    """
    retry = headers.get(h.RETRY)
    if retry is None:
        return
    named, _, age = retry.partition(" ")
    age_s = number(age, f"the age in {h.RETRY}") / 1000
    if named != instance and age_s + 1.0 > time.monotonic() - since:
        raise OutcomeUnknown("the agent was restarted since the call was sent: it may have run")
    if table.may_have_run(age_s):
        raise OutcomeUnknown("the call was sent too long ago: it may have run, its answer is no longer kept")


def deadline_at(headers: Headers) -> float | None:
    """The deadline on the monotonic clock, None without one. Raises DeadlineExceeded for a late call."""
    deadline = headers.get(h.DEADLINE)
    if deadline is None:
        return None
    remaining = number(deadline, h.DEADLINE) / 1000 - time.time()
    if remaining <= 0:
        raise DeadlineExceeded(f"arrived {-remaining:.3f} s after its deadline and was not run")
    return time.monotonic() + remaining


def find(nodes: Mapping[str, Node], path: str, name: str) -> tuple[Node, Method]:
    """The driver and method that a call names. Raises MethodNotFound, saying what there is."""
    node = nodes.get(path)
    if node is None:
        raise MethodNotFound(f"no driver {path!r} here{_near(path, nodes)}")
    method = node.methods.get(name)
    if method is None:
        known = ", ".join(node.methods) or "none"
        raise MethodNotFound(f"no exported method {name!r}: there is {known}{_near(name, node.methods)}")
    return node, method


def window_of(headers: Headers, method: Method) -> int:
    """How many bytes the client of a two-way stream takes, 0 for a call. Raises InvalidArgument for a mix-up."""
    if (method.kind == "bytes") != (h.WINDOW in headers):
        way = "open it with stream()" if method.kind == "bytes" else "call it"
        raise InvalidArgument(f"this method is {'' if method.kind == 'bytes' else 'not '}a byte stream: {way}")
    if method.kind != "bytes":
        return 0
    if h.DETACH in headers:
        raise InvalidArgument("a byte stream cannot go on without its client")
    return number(headers[h.WINDOW], h.WINDOW)


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
