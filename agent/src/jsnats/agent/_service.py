"""`$SRV`: every exporter and method shows in any NATS service tool (ADR-32).

One service, `jsnats-exporter`; its id is the agent instance, one endpoint for each method. The subjects have `*` where
the caller's user stands.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from jsnats.driver import Node
from jsnats.schemas import ProtocolError, call_subject, check_service, encode_json
from jsnats.sdk import Connection, Message

from ._presence import SERVICE

_TYPE = "io.nats.micro.v1.{}_response"


class MethodStats:
    """What `$SRV.STATS` tells of one method. Times are nanoseconds."""

    __slots__ = ("errors", "last_error", "requests", "time_ns")

    def __init__(self) -> None:
        self.requests = self.errors = self.time_ns = 0
        self.last_error = ""

    def count(self, begin_ns: int, error: str = "") -> None:
        """One call has ended."""
        self.requests += 1
        self.time_ns += time.perf_counter_ns() - begin_ns
        if error:
            self.errors += 1
            self.last_error = error


class Service:
    """Answers `$SRV` requests for one exporter."""

    def __init__(
        self, connection: Connection, exporter: str, instance: str, version: str, nodes: Iterable[Node]
    ) -> None:
        self.connection = connection
        self.identity = {"name": SERVICE, "id": instance, "version": version}
        self.metadata = {"exporter": exporter}
        self.started = datetime.now(UTC)
        self.stats: dict[tuple[str, str], MethodStats] = {}
        self._endpoints = [self._endpoint(exporter, node, name) for node in nodes for name in node.methods]

    def _endpoint(self, exporter: str, node: Node, name: str) -> dict[str, Any]:
        self.stats[node.path, name] = MethodStats()
        method = node.methods[name]
        subject = call_subject(exporter, "U", node.path, name).replace(".U.", ".*.", 1)
        return {
            "name": "_".join([*node.path.split("."), name]).lstrip("_"),
            "subject": subject,
            "queue_group": "",
            "metadata": {"path": node.path, "method": name, "kind": method.kind},
        }

    def answering(self) -> Iterator[tuple[str, Callable[[Message], Awaitable[None]]]]:
        """The subjects to subscribe, each with its callback."""
        for verb in ("PING", "INFO", "STATS"):
            for name in ("", f".{SERVICE}", f".{SERVICE}.{self.identity['id']}"):
                yield f"$SRV.{verb}{name}", self._answer

    async def _answer(self, message: Message) -> None:
        try:
            check_service(message.reply)
        except ProtocolError:
            return
        verb = message.subject.split(".")[1].lower()
        body = {"type": _TYPE.format(verb), **self.identity, "metadata": self.metadata, **self._content(verb)}
        await self.connection.publish(message.reply, encode_json(body))

    def _content(self, verb: str) -> dict[str, Any]:
        if verb == "info":
            return {"description": f"jsnats exporter {self.metadata['exporter']}", "endpoints": self._endpoints}
        if verb == "stats":
            return {"started": self.started.isoformat(), "endpoints": [self._figures(e) for e in self._endpoints]}
        return {}

    def _figures(self, endpoint: dict[str, Any]) -> dict[str, Any]:
        stats = self.stats[endpoint["metadata"]["path"], endpoint["metadata"]["method"]]
        return {
            "name": endpoint["name"],
            "subject": endpoint["subject"],
            "queue_group": "",
            "num_requests": stats.requests,
            "num_errors": stats.errors,
            "last_error": stats.last_error,
            "processing_time": stats.time_ns,
            "average_processing_time": stats.time_ns // stats.requests if stats.requests else 0,
        }
