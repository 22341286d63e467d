"""Base class of driver clients, and the clients that need no class of their own."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Generator
from typing import TYPE_CHECKING, Any, Self

from jsnats.schemas import MethodNotFound, MethodRecord, NodeRecord

from ._channel import Channel

if TYPE_CHECKING:
    import click


class DriverClient:
    """A driver as seen from afar. Subclass it to add conveniences; the logic belongs in the driver's exported methods.

    `children` are the clients below this one by name, also reachable as attributes. All methods raise CallError and
    BrokerError of `jsnats.common.exceptions`.
    """

    def __init__(self, channel: Channel, node: NodeRecord, children: dict[str, DriverClient] | None = None) -> None:
        from jsnats.sdk import Options

        self.children: dict[str, DriverClient] = children if children is not None else {}
        self._channel = channel
        self._node = node
        self._options = Options()

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
        """What the exporter's configuration says about this driver."""
        return self._node.description

    @property
    def methods(self) -> dict[str, MethodRecord]:
        """The exported methods as the exporter publishes them."""
        return self._channel.interface(self._node.interface).methods

    def options(self, **changes: Any) -> Self:
        """A copy of this client whose calls are made with `timeout_s` or `on_progress` (see `jsnats.sdk.Options`).

        `client.options(timeout_s=5).flash(image)` is refused or cancelled by the exporter after 5 s.
        """
        from dataclasses import replace

        other = copy.copy(self)
        other._options = replace(self._options, **changes)
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

    def detach(self, method: str, *args: Any, **kwargs: Any) -> str:
        """Start a call that goes on without us, and return its job id for `lab.job(...)` or `jsnats job attach`."""
        job: str = self._channel.run(self._channel.detach(self._node, method, args, kwargs))
        return job

    def cli(self) -> click.Command:
        """The command that `j` runs for this driver: here, one sub-command for each exported method."""
        from jsnats.sdk.cli import methods_command

        return methods_command(self)

    def __getattr__(self, name: str) -> Any:
        child = self.__dict__.get("children", {}).get(name)
        if child is None:
            raise AttributeError(
                f"{type(self).__name__} at {self.__dict__.get('_node') and self.path!r} has no {name!r}"
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
        way = self.streamingcall if record.kind == "stream" else self.call

        def method(*args: Any, **kwargs: Any) -> Any:
            return way(name, *args, **kwargs)

        method.__name__, method.__doc__ = name, record.doc
        return method

    def __dir__(self) -> list[str]:
        try:
            return [*super().__dir__(), *self.methods]
        except MethodNotFound:
            return [*super().__dir__()]
