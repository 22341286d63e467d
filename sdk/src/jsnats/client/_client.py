"""Base class of driver clients, and the clients that need no class of their own."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Self

from jsnats.schemas import MethodNotFound, MethodRecord, NodeRecord

from ._channel import Channel
from ._resources import ResourceMethods, bar_of, marked
from ._uploads import uploaded

if TYPE_CHECKING:
    import click

    from jsnats.sdk import BlockingStream, DuplexStream


class DriverClient(ResourceMethods):
    """A driver as seen from afar. Subclass it to add conveniences; the logic belongs in the driver's exported methods.

    `children` are the clients below this one by name, also reachable as attributes. All methods raise CallError and
    BrokerError of `jsnats.common.exceptions`.
    """

    def __init__(self, channel: Channel, node: NodeRecord, children: dict[str, DriverClient] | None = None) -> None:
        from jsnats.sdk import Options

        self.children: dict[str, DriverClient] = children if children is not None else {}
        self._channel = channel
        self._node = node
        self._options = Options(claim=channel.claim)

    @property
    def path(self) -> str:
        """Dotted place in the exporter's tree, "" for the root."""
        return self._node.path

    @property
    def exporter(self) -> str:
        """Name of the exporter."""
        return self._channel.exporter

    @property
    def description(self) -> str:
        """What the exporter's configuration says about this driver, or else the driver's docstring."""
        return self._node.description

    @property
    def methods(self) -> dict[str, MethodRecord]:
        """The exported methods as the exporter publishes them."""
        return self._channel.interface(self._node.interface).methods

    def options(self, **changes: Any) -> Self:
        """A copy of this client, and of those below it, whose calls are made with `timeout_s` or `on_progress`.

        See `jsnats.sdk.Options`. `client.options(timeout_s=5).flash(image)` is refused, or cancelled by the exporter,
        after 5 s.
        """
        from dataclasses import replace

        other = copy.copy(self)
        other._options = replace(self._options, **changes)
        other.children = {name: child.options(**changes) for name, child in self.children.items()}
        return other

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call an exported method and return its result as plain data."""
        return self._channel.run(self._channel.call(self._node, method, args, kwargs, self._options))

    async def call_async(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As `call`, for asyncio."""
        return await self._channel.call(self._node, method, args, kwargs, self._options)

    def streamingcall(self, method: str, *args: Any, **kwargs: Any) -> Generator[Any, None, None]:
        """Iterate over what an exported generator yields. Leaving the loop ends the generator."""
        yield from self._channel.drain(self._node, method, args, kwargs, self._options)

    async def streamingcall_async(self, method: str, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """As `streamingcall`, for asyncio."""
        results = await self._channel.stream(self._node, method, args, kwargs, self._options)
        async for batch in results.batches():
            for item in batch:
                yield item

    def open_stream(self, method: str = "connect", *args: Any, **kwargs: Any) -> BlockingStream:
        """Open a two-way byte stream: what a method with `@exportstream` offers. The caller closes it.

        Bytes survive a restart of the broker or a change of network; the death of the other end is StreamReset.
        """
        from jsnats.sdk import BlockingStream

        stream = self._channel.run(self._channel.open_stream(self._node, method, args, kwargs, self._options))
        assert self._channel.lab.bridge is not None
        return BlockingStream(stream, self._channel.lab.bridge)

    async def open_stream_async(self, method: str = "connect", *args: Any, **kwargs: Any) -> DuplexStream:
        """As `open_stream`, for asyncio."""
        return await self._channel.open_stream(self._node, method, args, kwargs, self._options)

    @contextmanager
    def stream(self, method: str = "connect", *args: Any, **kwargs: Any) -> Iterator[BlockingStream]:
        """As `open_stream`, closed at the end of the block."""
        with self.open_stream(method, *args, **kwargs) as stream:
            yield stream

    @asynccontextmanager
    async def stream_async(self, method: str = "connect", *args: Any, **kwargs: Any) -> AsyncIterator[DuplexStream]:
        """As `stream`, for asyncio. Left by an exception, it is closed without waiting for what was sent."""
        async with await self.open_stream_async(method, *args, **kwargs) as stream:
            yield stream

    def detach(self, method: str, *args: Any, **kwargs: Any) -> str:
        """Start a call that goes on without us, and return its job id for `lab.job(...)` or `jsnats job attach`."""
        job: str = self._channel.run(self._channel.detach(self._node, method, args, kwargs))
        return job

    def cli(self) -> click.Command:
        """The command that `j` runs for this driver: here, one sub-command for each exported method.

        Without words `j` shows its help, or runs it if it is a group made with `invoke_without_command=True`.
        """
        from jsnats.sdk.cli import methods_command

        return methods_command(self)

    def __getattr__(self, name: str) -> Any:
        child = self.__dict__.get("children", {}).get(name)
        if child is None:
            raise AttributeError(
                f"{type(self).__name__} at {self.__dict__.get('_node') and self.path!r} has no {name!r}"
                f" (an exported method that the class lacks is called by call({name!r}))"
            )
        return child

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.children]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.exporter}{'.' if self.path else ''}{self.path}>"


class CompositeClient(DriverClient):
    """Client of a node that holds others: the children are its attributes."""

    def cli(self) -> click.Command:
        """A group with the commands of the children."""
        from jsnats.sdk.cli import children_command

        return children_command(self)


class DynamicClient(DriverClient):
    """Client of a driver whose own client class is not installed here: made from the published interface."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        child = self.__dict__.get("children", {}).get(name)
        return child if child is not None else self._method(name)

    def _method(self, name: str) -> Callable[..., Any]:
        record = self.methods.get(name)
        if record is None:
            raise AttributeError(
                f"{self.path or 'the root'} has no method {name!r}: it has {', '.join(self.methods) or 'none'}"
            )
        streams = record.kind == "stream"

        def method(*args: Any, **kwargs: Any) -> Any:
            given, named, files = marked(record, args, kwargs)
            if streams and files:
                given, named = self._channel.run(uploaded(self._channel.lab.blobs, given, named, bar_of(self._options)))
            way = self.streamingcall if streams else self.call_with_uploads if files else self.call
            return way(name, *given, **named)

        method.__name__, method.__doc__ = name, record.doc
        return method

    def __dir__(self) -> list[str]:
        try:
            return [*super().__dir__(), *self.methods]
        except MethodNotFound:
            return [*super().__dir__()]
