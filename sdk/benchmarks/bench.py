"""The driver of the exporter side: what the rows of jsnats call."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Any

import measure
from pydantic.dataclasses import dataclass

from jsnats.driver import Driver, export


@dataclass(kw_only=True, eq=False)
class Bench(Driver):
    """Answers, streams and sleeps."""

    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DynamicClient"

    @export
    async def ping(self, value: Any) -> Any:
        """Return `value`."""
        return value

    @export
    async def items(self, count: int) -> AsyncGenerator[dict[str, Any], None]:
        """Yield `count` readings."""
        for index in range(count):
            yield measure.item(index)

    @export
    async def sleep(self, seconds: float) -> None:
        """Take that long."""
        await asyncio.sleep(seconds)

    @export
    async def process(self) -> int:
        """Number of the exporter's process."""
        return os.getpid()
