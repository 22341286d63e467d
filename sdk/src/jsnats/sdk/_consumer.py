"""Consumers of a stream: each under a random name, and short-lived."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from jsnats.schemas import BrokerUnreachable

from ._cluster import ATTEMPT_S, ELECTION_S
from ._connection import Connection

_NS = 10**9


async def create_consumer(
    connection: Connection, stream: str, subject: str, config: dict[str, Any], *, idle_s: float
) -> tuple[str, dict[str, Any]]:
    """Make a consumer of `subject` that is gone after `idle_s` without a request; return its name and the answer.

    A cluster may give it to a server that has just died, and then nobody answers, however often the same one is asked
    for: so it is asked for under another name. Raises BrokerUnreachable, AccessDenied, ApiError.
    """
    end = asyncio.get_running_loop().time() + ELECTION_S
    while True:
        name = secrets.token_hex(16)
        whole = {
            "name": name,
            "ack_policy": "none",
            "filter_subject": subject,
            "mem_storage": True,
            "inactive_threshold": int(idle_s * _NS),
            **config,
        }
        ask, body = f"CONSUMER.CREATE.{stream}.{name}.{subject}", {"stream_name": stream, "config": whole}
        if not connection.clustered:
            return name, await connection.api(ask, body)
        try:
            return name, await connection.api(ask, body, timeout_s=ATTEMPT_S, patience_s=0.0)
        except BrokerUnreachable:
            if asyncio.get_running_loop().time() >= end:
                raise
