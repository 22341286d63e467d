"""Control messages of one exporter: cancel, probe, credit, attach, parts of arguments."""

from __future__ import annotations

import logging
import time
from typing import Any

from jsnats.schemas import (
    JSON,
    MSGPACK,
    ProtocolError,
    check_control,
    check_request,
    content_type,
    decode,
    encode,
    headers as h,
    parse_ctl,
)
from jsnats.sdk import Message

from ._dispatch import Dispatcher
from ._table import Answer, OpenCall

log = logging.getLogger("jsnats.agent")


class Control:
    """Answers ctl messages from the dispatcher's table. A call of another user is not known here."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher

    def on_ctl(self, message: Message) -> None:
        """Listener of the ctl subscription."""
        try:
            subject = parse_ctl(message.subject)
            check_control(message.headers)
            if message.reply and self.dispatcher.auth:
                check_request(message.reply, subject.user, None)
            assert message.headers is not None
            kind = content_type(message.headers)
            verb = message.headers.get(h.CTL, "")
            call = self.dispatcher.table.get(subject.user, subject.call)
            if call:
                call.heard = time.monotonic()
                self._act(verb, call, message, kind)
        except ProtocolError as error:
            log.warning("%s: ignored a message on %s: %s", self.dispatcher.exporter, message.subject[:120], error)
            return
        if message.reply:
            self._answer(verb, message.reply, call, kind if kind == MSGPACK else JSON)

    def _act(self, verb: str, call: OpenCall, message: Message, kind: str) -> None:
        dispatcher = self.dispatcher
        if verb == "cancel":
            dispatcher.cancel(call, "by its caller")
        elif verb == "part":
            dispatcher.add_part(call, (message.headers or {}).get(h.PART, ""), message.data)
        elif verb in ("credit", "probe", "attach"):
            if call.publisher and message.data:
                call.publisher.credit(*_credit(decode(message.data, kind)))
            elif call.answer and verb == "probe":
                self._reply(call.reply, call.answer)
        else:
            raise ProtocolError(f"unknown verb {verb[:20]!r}")

    def _answer(self, verb: str, reply: str, call: OpenCall | None, kind: str) -> None:
        if verb == "attach" and call and call.answer and not call.settled and h.ERROR in (call.answer[1] or {}):
            self._reply(reply, call.answer)  # its end is not in the store, so the reader would wait for it for ever
            return
        state: dict[str, Any] = call.describe() if call else {"state": "unknown"}
        state |= {"instance": self.dispatcher.answers.instance, "time": int(time.time() * 1000)}
        self._reply(reply, (encode(state, kind), {h.CONTENT_TYPE: kind}))

    def _reply(self, reply: str, answer: Answer) -> None:
        self.dispatcher.connection.spawn(self.dispatcher.answers.reply(reply, answer))


def _credit(content: Any) -> tuple[int, int]:
    """Used and credit of a credit body. Raises ProtocolError for anything else."""
    used, credit = (content.get("used"), content.get("credit")) if isinstance(content, dict) else (None, None)
    if type(used) is not int or type(credit) is not int or min(used, credit) < 0:
        raise ProtocolError("credit is a map of used and credit, both not negative")
    return used, credit
