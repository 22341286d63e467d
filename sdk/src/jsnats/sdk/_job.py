"""A call that runs, or ran, without its caller: read what it gave, ask how it is, end it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jsnats.schemas import ExporterOffline, OutcomeUnknown, ctl_subject

from ._broker_errors import NoResponders
from ._lasting import RECONNECT_WAIT_S
from ._results import AsyncResults, ResultStream
from ._sync import drain

if TYPE_CHECKING:
    from ._lab import AsyncLab


class Job:
    """A detached call of ours."""

    def __init__(self, lab: AsyncLab, exporter: str, call: str) -> None:
        self.lab = lab
        self.exporter = exporter
        self.call = call

    async def attach(self) -> AsyncResults:
        """Read its items from the first one kept, then follow. Iterating raises what the call raised."""
        results = AsyncResults()
        results.stream = self._stream(results.sink)
        await results.stream.attach(self.call)
        return results

    def _stream(self, sink: Any) -> ResultStream:
        return ResultStream(self.lab.caller, self.exporter, "", "job", b"", sink)

    def items(self) -> Iterator[Any]:
        """As `attach`, for sync code."""
        bridge = self.lab.bridge
        if bridge is None:
            raise RuntimeError("use `await job.attach()` on an AsyncLab")
        return drain(bridge, self._stream, lambda stream: stream.attach(self.call))

    async def cancel(self) -> str:
        """End it; return the state it was in. Raises OutcomeUnknown if the exporter does not know it."""
        return await self._ask("cancel")

    async def state(self) -> str:
        """`running` or `done`. Raises OutcomeUnknown if the exporter does not know it."""
        return await self._ask("probe")

    async def _ask(self, verb: str) -> str:
        connection = self.lab.connection
        subject = ctl_subject(self.exporter, connection.token, self.call)
        begin, answer = asyncio.get_running_loop().time(), None
        while answer is None:
            await connection.wait_connected()
            try:
                answer = await self.lab.caller.probe(subject, verb)
            except NoResponders:
                if not self.lab.caller.in_grace(self.exporter, begin):
                    raise self._offline() from None
                await asyncio.sleep(RECONNECT_WAIT_S)
            except TimeoutError:
                raise self._offline() from None
        state = str(answer.get("state", "unknown"))
        if state == "unknown":
            raise OutcomeUnknown(f"exporter {self.exporter!r} does not know that call")
        return state

    def _offline(self) -> ExporterOffline:
        return ExporterOffline(f"exporter {self.exporter!r} is offline: see `jsnats ls`")
