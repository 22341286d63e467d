"""Messages of a stream from some moment on, with the broker's time of each: what events and logs are read with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from ._broker_errors import ApiError
from ._connection import Connection
from ._follow import Delivered, delivered, follow
from ._replay import present, replay
from ._since import Since, moment_of

log = logging.getLogger("jsnats.connection")

RETRY_S = 0.2
ROUNDING_S = 1e-6
"""A float does not hold the nanoseconds of a stored time: reading from a message's own time on has to find it."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """A place in a stream: beyond sequence `after`, or at what was stored at Unix time `since`."""

    after: int = 0
    since: float | None = None


async def beginning(connection: Connection, stream: str, subject: str, since: Since, *, following: bool) -> Beginning:
    """Where to begin: at `since` by the broker's clock; without it at the start, or, when following, at what comes.

    Who follows waits for a lab whose streams are not made yet.
    Raises ConfigurationError, AccessDenied, ApiError, BrokerUnreachable.
    """
    if since is None and not following:
        return Beginning()
    told = False
    while True:
        try:
            now = await present(connection, stream, subject)
        except ApiError as error:
            waited_for = following and error.is_no_stream
            if not waited_for and not connection.just_back:  # the stream is there a little later than its server
                raise
            if waited_for and not told:
                log.warning("the lab at %s has no streams yet, waiting for them", connection.context.url)
                told = True
            await asyncio.sleep(RETRY_S)
        else:
            if since is None:
                return Beginning(after=now.sequence)
            return Beginning(since=max(0.0, moment_of(since, now.time) - ROUNDING_S))


async def read_stored(
    connection: Connection, stream: str, subject: str, begin: Beginning, *, following: bool
) -> AsyncGenerator[Delivered, None]:
    """Yield what is stored from there on, and when following what comes, for ever, through outages.

    Raises AccessDenied, ApiError; BrokerUnreachable only when not following.
    """
    if following:
        async with aclosing(follow(connection, stream, subject, after=begin.after, since=begin.since)) as found:
            async for each in found:
                yield each
        return
    async with aclosing(replay(connection, stream, subject, after=begin.after, since=begin.since)) as stored:
        async for _, message in stored:
            yield delivered(message)
