"""A websocket as a stream of messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ssl import SSLContext
from typing import Any, Final
from urllib.parse import urlsplit

from anyio import BrokenResourceError, EndOfStream
from anyio.abc import ObjectStream
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from .dial import dialling

MAX_MESSAGE: Final = 16 << 20
"""Bytes of one message; a service that sends a larger one is cut off."""


class WebsocketStream(ObjectStream[bytes]):
    """One message for each `send` and `receive`. A websocket has no half-close: `send_eof` does nothing."""

    def __init__(self, inner: ClientConnection, *, text: bool) -> None:
        self._inner = inner
        self._text = text

    async def receive(self) -> bytes:
        """Return the next message. Raises EndOfStream after a farewell, else BrokenResourceError with the reason."""
        try:
            return await self._inner.recv(decode=False)
        except ConnectionClosedOK:
            raise EndOfStream from None
        except ConnectionClosed as error:
            raise BrokenResourceError(str(error)) from error

    async def send(self, item: bytes) -> None:
        """Send one message. Raises BrokenResourceError with the reason."""
        try:
            await self._inner.send(item, text=self._text)
        except ConnectionClosed as error:
            raise BrokenResourceError(str(error)) from error

    async def send_eof(self) -> None:
        """Do nothing: the service goes on."""

    async def aclose(self) -> None:
        """Say farewell."""
        await self._inner.close()


async def dial_websocket(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    subprotocols: Sequence[str] = (),
    text: bool = False,
    timeout_s: float,
    tls: SSLContext | None = None,
    where: str = "",
) -> WebsocketStream:
    """Connect to `url`, never by way of a proxy; the caller closes the stream.

    `tls` is for a certificate of one's own authority, `where` what errors name in place of the URL without its query.
    Raises as `dialling`.
    """
    secure: dict[str, Any] = {"ssl": tls} if tls else {}  # None would be refused with wss://
    with dialling(where or _public(url), timeout_s), _worded():
        inner = await connect(
            url,
            additional_headers=headers,
            subprotocols=[Subprotocol(each) for each in subprotocols] or None,
            compression=None,  # a cable away: it would only cost time
            proxy=None,
            open_timeout=None,
            max_size=MAX_MESSAGE,
            **secure,
        )
    return WebsocketStream(inner, text=text)


@contextmanager
def _worded() -> Iterator[None]:
    """Raise what is wrong with the service as ConnectionError."""
    try:
        yield
    except InvalidStatus as error:
        raise ConnectionError(f"it answers HTTP {error.response.status_code}") from error
    except WebSocketException as error:
        raise ConnectionError(f"no websocket there: {error}") from error


def _public(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
