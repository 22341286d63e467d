"""What a client calls through: one exporter over one connection, for sync and async code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jsnats.schemas import InterfaceRecord, InvalidArgument

if TYPE_CHECKING:
    from jsnats.sdk import AsyncLab, AsyncResults, Claim, DuplexStream, Options


class Channel:
    """Calls to one exporter, under the lease of `claim`. The sync methods need a lab made by `connect()`."""

    def __init__(self, lab: AsyncLab, exporter: str, claim: Claim | None = None) -> None:
        self.lab = lab
        self.exporter = exporter
        self.claim = claim

    def run(self, work: Any) -> Any:
        """Run a coroutine of ours from sync code."""
        if self.lab.bridge is None:
            work.close()
            raise RuntimeError("this client belongs to asyncio code: use call_async() and streamingcall_async()")
        return self.lab.bridge.run(work)

    async def body(self, node: Any, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """Encode arguments. Both positional and keyword ones need the published names to become one map."""
        from jsnats.sdk import encode_arguments

        if not (args and kwargs):
            return encode_arguments(args, kwargs)
        record = (await self.lab.interface(node.interface)).methods.get(method)
        names = list(record.params.get("properties", ())) if record else []
        if record is None or len(args) > len(names):
            raise InvalidArgument(
                f"{len(args)} positional arguments beside keywords: it takes {names}", path=node.path, method=method
            )
        return encode_arguments((), dict(zip(names, args, strict=False)) | dict(kwargs))

    async def call(
        self, node: Any, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Options
    ) -> Any:
        """One call."""
        from jsnats.sdk import encode_arguments

        body = await self.body(node, method, args, kwargs) if args and kwargs else encode_arguments(args, kwargs)
        return await self.lab.caller.call(self.exporter, node.path, method, body, options)

    async def detach(self, node: Any, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Start a call that goes on without us; return its job id."""
        body = await self.body(node, method, args, kwargs)
        return await self.lab.caller.detach(self.exporter, node.path, method, body, self.claim)

    async def stream(self, node: Any, method: str, args: Any, kwargs: Any, options: Options) -> AsyncResults:
        """Open a stream of results."""
        body = await self.body(node, method, args, kwargs)
        return await self.lab.stream(self.exporter, node.path, method, body, options=options)

    async def open_stream(self, node: Any, method: str, args: Any, kwargs: Any, options: Options) -> DuplexStream:
        """Open a two-way byte stream."""
        body = await self.body(node, method, args, kwargs)
        return await self.lab.open_stream(self.exporter, node.path, method, body, options=options)

    def drain(self, node: Any, method: str, args: Any, kwargs: Any, options: Options) -> Iterator[Any]:
        """Iterate over a stream of results from sync code."""
        from jsnats.sdk import ResultStream, drain, encode_arguments

        if self.lab.bridge is None:
            raise RuntimeError("this client belongs to asyncio code: use streamingcall_async()")
        # Encoded here: only the names of positional arguments beside keywords need the loop.
        mixed = args and kwargs
        body = self.run(self.body(node, method, args, kwargs)) if mixed else encode_arguments(args, kwargs)
        caller = self.lab.caller
        return drain(
            self.lab.bridge,
            lambda sink: ResultStream(caller, self.exporter, node.path, method, body, sink, options),
            lambda stream: stream.start(),
        )

    def interface(self, digest: str) -> InterfaceRecord:
        """The published interface, for sync code; cached by the lab."""
        known = self.lab._interfaces.get(digest)
        return known or self.run(self.lab.interface(digest))
