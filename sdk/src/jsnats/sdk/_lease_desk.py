"""Requests to the scheduler, which alone writes leases. All of them may be repeated."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jsnats.schemas import (
    ADMIN,
    BrokerUnfit,
    BrokerUnreachable,
    ProtocolError,
    admin_subject,
    decode_json,
    encode_json,
    error_from_wire,
    headers as h,
    lease_subject,
    with_names,
)

from ._broker_errors import NoResponders
from ._connection import Connection
from ._lasting import OUTAGE_S

if TYPE_CHECKING:
    from nats.aio.msg import Msg

log = logging.getLogger("jsnats.lease")

ASK_S = 10.0
TELL_S = 1.0
"""Who waits so long for an answer is told what for."""
ANSWER_S = 2.0
"""The scheduler that took a request may have been killed with it, so it is sent again; for ASK_S at least, in all."""
AGAIN_S = 0.5
"""A lab without a scheduler is asked again so soon: one may be starting."""


class LeaseDesk:
    """Where one asks about leases. An admin asks about those of everybody."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def own(
        self, verb: str, *, patience_s: float = OUTAGE_S, answer_s: float = ANSWER_S, **fields: Any
    ) -> dict[str, Any]:
        """Ask about a lease of ours, again after `answer_s` without an answer. Raises as `_ask`."""
        return await self._ask(lease_subject(self._connection.token, verb), fields, patience_s, answer_s)

    async def any(self, verb: str, *, patience_s: float = OUTAGE_S, **fields: Any) -> dict[str, Any]:
        """Ask about a lease of ours or, as an admin, of anybody. Raises as `_ask`."""
        subject_of = admin_subject if self._connection.context.role == ADMIN else lease_subject
        return await self._ask(subject_of(self._connection.token, verb), fields, patience_s)

    async def admin(self, verb: str, **fields: Any) -> dict[str, Any]:
        """What only an admin may ask. Raises as `_ask`, AccessDenied for anybody else."""
        return await self._ask(admin_subject(self._connection.token, verb), fields, OUTAGE_S)

    async def _ask(
        self, subject: str, fields: dict[str, Any], patience_s: float, answer_s: float = ANSWER_S
    ) -> dict[str, Any]:
        """Send until there is an answer; users in it are names.

        Raises CallError, BrokerUnreachable, AccessDenied, BrokerUnfit when there is no scheduler for `patience_s`.
        """
        with self._told(subject):
            message = await self._answer(subject, encode_json(fields), patience_s, answer_s)
        answer = decode_json(message.data)
        code = (message.headers or {}).get(h.ERROR_CODE)
        if code:
            raise error_from_wire(int(code) if code.isdigit() else 0, answer)
        if not isinstance(answer, dict):
            raise ProtocolError(f"the scheduler's answer on {subject} is no map")
        return with_names(answer)

    async def _answer(self, subject: str, body: bytes, patience_s: float, answer_s: float) -> Msg:
        loop = asyncio.get_running_loop()
        end = loop.time() + patience_s
        last = max(end, loop.time() + ASK_S)
        while True:
            try:
                return await self._connection.read(subject, body, timeout_s=answer_s)
            except NoResponders:
                if loop.time() >= end:
                    raise BrokerUnfit(
                        f"no scheduler answers at {self._connection.context.url}: "
                        "`jsnats broker run` has one, and `jsnats scheduler run` is one"
                    ) from None
                await asyncio.sleep(AGAIN_S)
            except BrokerUnreachable:
                if self._connection.closing or loop.time() >= last:
                    raise

    @contextmanager
    def _told(self, subject: str) -> Iterator[None]:
        """Say what is waited for; not for what is asked in the background, over and over."""
        if subject.endswith(".renew"):
            yield
            return
        text = "waiting for an answer of a scheduler at %s"
        saying = asyncio.get_running_loop().call_later(TELL_S, log.warning, text, self._connection.context.url)
        try:
            yield
        finally:
            saying.cancel()
