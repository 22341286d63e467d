"""The calls of one exporter: those that run, and the answers kept for a caller who asks again.

A repeated call id is never run twice. Answers are kept for ten minutes, up to ten thousand of them and 32 MiB; when
one had to go, a retry of a call that old is answered with OutcomeUnknown instead of being run.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from typing import Any

from jsnats.driver import Driver, Method, Node
from jsnats.schemas import CallError
from jsnats.sdk import Pipe

from ._publish import Publisher

KEEP_S = 600.0
KEEP_ANSWERS = 10_000
KEEP_BYTES = 32 << 20
LOT = 128
"""Answers beyond the limit before some are forgotten: looking at every call costs 5 % of the exporter."""

Answer = tuple[bytes, dict[str, str] | None]
Key = tuple[str, str]


class OpenCall:
    """One call, from its arrival until its answer is forgotten."""

    __slots__ = (
        "absent",
        "answer",
        "arrived",
        "asked",
        "bound",
        "counted",
        "detached",
        "ended",
        "ending",
        "heard",
        "id",
        "kind",
        "method",
        "node",
        "opened",
        "parts",
        "parts_expected",
        "pipe",
        "progress",
        "publisher",
        "reply",
        "settled",
        "task",
        "told",
        "user",
        "window",
    )

    def __init__(self, user: str, call: str, reply: str, kind: str, node: Node, method: Method) -> None:
        self.user, self.id, self.reply, self.kind = user, call, reply, kind
        self.node, self.method = node, method
        self.arrived = self.heard = time.monotonic()
        self.ended = 0.0
        self.detached = self.progress = self.counted = self.told = False
        self.bound: tuple[tuple[Any, ...], dict[str, Any]] | None = None  # its arguments, while it runs
        self.settled = False  # its end is stored in RESULTS, where its caller reads: no reply is needed
        self.ending: CallError | None = None  # why it was cancelled, as its caller is told
        self.task: asyncio.Task[None] | None = None
        self.answer: Answer | None = None
        self.publisher: Publisher | None = None
        self.parts: list[bytes] = []
        self.parts_expected = 0
        self.window = 0  # of a two-way stream: what its client takes
        self.pipe: Pipe | None = None
        self.opened: dict[str, Any] | None = None
        self.asked = 0.0
        self.absent = False

    @property
    def slot(self) -> tuple[Driver, bool]:
        """What it counts for in the limits: its driver, and whether it is a byte stream."""
        return self.node.driver, self.method.kind == "bytes"

    @property
    def streams(self) -> bool:
        """Its results go to RESULTS: a generator, or a call without a caller."""
        return self.detached or self.method.kind == "stream"

    @property
    def state(self) -> str:
        """`parts` while arguments are awaited, then `running`, then `done`."""
        if self.answer:
            return "done"
        return "parts" if self.parts_expected > len(self.parts) else "running"

    def describe(self) -> dict[str, Any]:
        """What a probe is answered with."""
        more: dict[str, Any] = {"stored": list(self.publisher.stored)} if self.publisher else {}
        if self.parts_expected:
            more["have"] = len(self.parts)
        return {"state": self.state, **more}

    def cancel(self, ending: CallError) -> None:
        """End it; its caller is told `ending`."""
        if self.task and not self.answer and not self.ending:
            self.ending = ending
            # Not at once: a task that is cancelled before its first step never runs, and would never answer.
            asyncio.get_running_loop().call_soon(self._cancel_task)

    def _cancel_task(self) -> None:
        if self.task:
            self.task.cancel()


class CallTable:
    """Open and answered calls by (user, call id); `open` counts the open ones of each driver, byte streams apart."""

    def __init__(self) -> None:
        self._calls: OrderedDict[Key, OpenCall] = OrderedDict()
        self._answered: OrderedDict[Key, OpenCall] = OrderedDict()
        self.open: Counter[tuple[Driver, bool]] = Counter()
        self._bytes = 0
        self._forgotten_until = float("-inf")

    def get(self, user: str, call: str) -> OpenCall | None:
        """The call, if it is known."""
        key = (user, call)
        return self._calls.get(key) or self._answered.get(key)

    def add(self, call: OpenCall) -> None:
        """Keep an open call; adding it again changes nothing."""
        if self._calls.setdefault((call.user, call.id), call) is call and not call.counted:
            call.counted = True
            self.open[call.slot] += 1

    def running(self) -> list[OpenCall]:
        """All that have no answer yet."""
        return list(self._calls.values())

    def remove(self, call: OpenCall) -> None:
        """Forget a call that never ran."""
        if self._calls.pop((call.user, call.id), None) is not None:
            self.open[call.slot] -= 1

    def finish(self, call: OpenCall, answer: Answer) -> None:
        """Keep the answer instead of the call."""
        key = (call.user, call.id)
        call.answer, call.ended = answer, time.monotonic()
        call.task, call.bound, call.parts = None, None, []
        if self._calls.pop(key, None) is not None:
            self.open[call.slot] -= 1
            self._answered[key] = call
            self._bytes += len(answer[0])
            if len(self._answered) > KEEP_ANSWERS + LOT or self._bytes > KEEP_BYTES:
                self.forget()

    def may_have_run(self, age_s: float) -> bool:
        """Say whether a call first sent `age_s` ago, unknown now, may have been forgotten."""
        return time.monotonic() - age_s - 1.0 <= self._forgotten_until

    def forget(self) -> None:
        """Let go of what is too old, and of what is too much."""
        limit = time.monotonic() - KEEP_S
        while self._answered:
            oldest = next(iter(self._answered.values()))
            if len(self._answered) <= KEEP_ANSWERS and self._bytes <= KEEP_BYTES and oldest.ended > limit:
                return
            self._answered.popitem(last=False)
            assert oldest.answer
            self._bytes -= len(oldest.answer[0])
            self._forgotten_until = max(self._forgotten_until, oldest.arrived)
