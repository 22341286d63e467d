"""Put the messages of one call's results in order, each once.

Messages can come twice (the exporter resends what was not acknowledged), out of order (a resend after a refusal)
and with gaps (the live feed was cut). Each carries the index of its first item, and an item that did not fit one
message comes in fragments `k/n`: so the position of a message is (index, k), and what comes next is always known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsnats.schemas import CallCancelled, CallError, ProtocolError, content_type, decode, error_from_wire, headers as h

Position = tuple[int, int]


class Assembler:
    """Feed it messages; it returns the items that are due. `ended` is set with the last one, `error` says how.

    With `from_oldest`, the first message decides where the results begin: the ones before are no longer stored.
    """

    def __init__(self, *, from_oldest: bool = False) -> None:
        self.next: Position = (0, 0)
        self.floating = from_oldest
        self.ended = False
        self.error: CallError | None = None
        self._held: dict[Position, tuple[Mapping[str, str], bytes]] = {}
        self._fragments: list[bytes] = []

    @property
    def gap(self) -> bool:
        """Something later is here, something earlier is not."""
        return bool(self._held) and not self.ended

    def take(self, headers: Mapping[str, str], body: bytes) -> list[Any]:
        """Take one message, return the items that can be delivered now. Raises ProtocolError."""
        try:
            position = int(headers[h.INDEX]), int(headers.get(h.PART, "0/1").partition("/")[0])
        except (KeyError, ValueError) as error:
            raise ProtocolError("a result without a position") from error
        if self.floating:
            self.next, self.floating = position, False
        if self.ended or position < self.next:
            return []
        if position != self.next:
            self._held[position] = headers, body
            return []
        items = self._accept(headers, body)
        while not self.ended and self.next in self._held:
            items += self._accept(*self._held.pop(self.next))
        if self._held:
            self._held = {at: held for at, held in self._held.items() if at > self.next}
        return items

    def _accept(self, headers: Mapping[str, str], body: bytes) -> list[Any]:
        kind = content_type(headers)
        if h.END in headers:
            self._end(headers, decode(body, kind))
            return []
        index, part = self.next
        if h.PART in headers:
            self._fragments.append(body)
            if len(self._fragments) < int(headers[h.PART].partition("/")[2]):
                self.next = index, part + 1
                return []
            body = b"".join(self._fragments)
            self._fragments.clear()
        items = decode(body, kind)
        if not isinstance(items, list):
            raise ProtocolError("a batch of results is an array")
        self.next = index + len(items), 0
        return items

    def _end(self, headers: Mapping[str, str], body: Any) -> None:
        self.ended = True
        if headers[h.END] != "ok":
            code = headers.get(h.ERROR_CODE, "")
            self.error = error_from_wire(int(code) if code.isdigit() else CallCancelled.code, body)
