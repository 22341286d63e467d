"""What a caller is told: the answer, an error, or that its call goes on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from jsnats.schemas import CallError, encode, encode_error, headers as h, sendable
from jsnats.sdk import Connection, Disconnected

from ._table import Answer, CallTable, OpenCall

log = logging.getLogger("jsnats.agent")

STILL_S = 5.0
"""A call whose caller wants progress says about that often that it is still working."""
PROGRESS_S = 0.2
"""Progress that a driver reports is sent on at most that often."""


def error_answer(error: CallError, kind: str) -> Answer:
    """The answer that carries an error: ADR-32 headers, and a body with type, message and place."""
    code, content = encode_error(error, kind)
    text = " ".join(f"{type(error).__name__}: {sendable(error.message)}".split())
    return content, {h.ERROR: text[:400], h.ERROR_CODE: str(code), h.CONTENT_TYPE: kind}


class Answers:
    """Sends answers over one exporter's connection, and keeps them in its table."""

    def __init__(self, connection: Connection, instance: str, table: CallTable) -> None:
        self.connection = connection
        self.instance = instance
        self.table = table

    async def finish(self, call: OpenCall, answer: Answer) -> None:
        """Keep the answer and send it, unless the caller has it from the store."""
        self.table.finish(call, answer)
        if not call.settled:
            await self.reply(call.reply, answer)

    async def reply(self, subject: str, answer: Answer) -> None:
        """Send an answer; without a connection it is kept for the caller to ask for."""
        if not subject:
            return
        try:
            await self.connection.publish(subject, answer[0], headers=answer[1])
        except Disconnected:
            log.debug("answer kept: not connected")

    async def interim(self, call: OpenCall, what: str, content: dict[str, Any]) -> None:
        """Tell the caller something before the answer: `accepted`, `progress` or `parts`."""
        headers = {h.INTERIM: what, h.CONTENT_TYPE: call.kind}
        await self.reply(call.reply, (encode({"instance": self.instance, **content}, call.kind), headers))

    async def again(self, call: OpenCall, reply: str) -> None:
        """A caller asks again for a call we know: from now on the answer goes to `reply`."""
        call.reply, call.heard = reply, time.monotonic()
        if call.answer:
            await self.reply(reply, call.answer)
        elif call.state == "parts":
            await self.interim(call, "parts", {"have": len(call.parts)})
        elif call.opened:
            await self.interim(call, "accepted", call.opened)
        elif call.publisher:
            await self.interim(call, "accepted", {})

    async def still_working(self, call: OpenCall, now: float, period_s: float) -> None:
        """Called about every `period_s`: tell a caller who wants progress how long its call has run."""
        elapsed = now - call.arrived
        if call.progress and elapsed % STILL_S < 2 * period_s <= elapsed:
            await self.interim(call, "progress", {"elapsed": elapsed})

    def progress_sink(self, call: OpenCall) -> Callable[[float, float | None, str], None]:
        """Where the driver's `report_progress` goes; it is called on any thread."""
        loop, sent_at = asyncio.get_running_loop(), 0.0

        def send(content: dict[str, Any]) -> None:
            if not call.answer:
                self.connection.spawn(self.interim(call, "progress", content))

        def sink(done: float, total: float | None, message: str) -> None:
            nonlocal sent_at
            now = time.monotonic()
            if now - sent_at >= PROGRESS_S or done == total:
                sent_at = now
                loop.call_soon_threadsafe(send, {"done": done, "total": total, "message": message})

        return sink
