"""What a connection to the broker raises beside the errors of the protocol, and what the broker's words mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import nats.errors

from jsnats.schemas import BrokerError, headers as h

from ._nats import Msg

_DENIED = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)
_NO_LEADER = frozenset({10004, 10005, 10006, 10007, 10008, 10009})
"""What JetStream says while it has no leader, or not the servers that it wants."""


class Disconnected(BrokerError):
    """There is no connection right now, or none any more."""


class NoResponders(BrokerError):
    """Nobody is subscribed to that subject."""


class ApiError(BrokerError):
    """JetStream refused. `code` is its err_code."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(str(error.get("description", "JetStream refused")))
        self.code = int(error.get("err_code", 0))

    @property
    def is_conflict(self) -> bool:
        """Whether the subject has another last message than was expected; a cluster has a code of its own for it."""
        return self.code in (10071, 10164)

    @property
    def is_no_stream(self) -> bool:
        """Whether the stream is not there: nobody has made the lab's yet."""
        return self.code == 10059

    @property
    def is_passing(self) -> bool:
        """Whether a cluster says so only until it has elected a leader."""
        return self.code in _NO_LEADER


def is_no_responders(message: Msg) -> bool:
    """Say whether the broker answered that nobody listens."""
    return message.headers is not None and message.headers.get(h.STATUS) == "503" and not message.data


def denied(error: Exception) -> tuple[str, str] | None:
    """What the broker forbade: publish or subscription, and the subject; nats-py tells both in lower case."""
    found = _DENIED.search(str(error))
    return (found[1].lower(), found[2]) if found else None


def is_refusal(error: Exception) -> bool:
    """Say whether the broker does not accept our credential."""
    text = str(error).lower()
    if denied(error):
        return False  # the subject in it may hold any word
    return isinstance(error, nats.errors.AuthorizationError) or "authorization" in text or "authentication" in text
