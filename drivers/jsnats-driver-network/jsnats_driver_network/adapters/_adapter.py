"""The sync form of an adapter is its async one, run on the loop of the client."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from jsnats.client import DriverClient

T = TypeVar("T")


class Adapter(ABC, Generic[T]):
    """Base of adapters. `with` needs a client of a lab made by `connect()`, `async with` one by `connect_async()`."""

    client: DriverClient

    @abstractmethod
    async def __aenter__(self) -> T: ...

    @abstractmethod
    async def __aexit__(self, kind: object, *exc: object) -> None: ...

    def __enter__(self) -> T:
        result: T = self.client._channel.run(self.__aenter__())
        return result

    def __exit__(self, kind: object, *exc: object) -> None:
        self.client._channel.run(self.__aexit__(kind, *exc))
