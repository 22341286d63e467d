"""The service that signs: as much of the ssh agent's protocol as a login needs, and nothing more.

OpenSSH's own ssh-agent would do, but whoever reaches one may also add keys to it, remove them or lock it, and it signs
anything. Here a client sees the one key and has logins signed by it: no other client is disturbed, and the key signs no
commits, files or certificates. It has no process, so none is left when the exporter's is killed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from anyio import ClosedResourceError, EndOfStream, Event
from anyio.abc import ByteStream

from .identity import Identity
from .wire import Reader, string

FAILURE: Final = b"\x05"
REQUEST_IDENTITIES: Final = 11
IDENTITIES_ANSWER: Final = b"\x0c"
SIGN_REQUEST: Final = 13
SIGN_RESPONSE: Final = b"\x0e"

USERAUTH_REQUEST: Final = 50
LOGINS: Final = (b"publickey", b"publickey-hostbound-v00@openssh.com")

REQUEST_BYTES: Final = 1 << 18
"""The longest request, which is OpenSSH's limit too."""

Tell = Callable[[str], None]


def answer(identity: Identity, request: bytes, tell: Tell) -> bytes:
    """Answer a request, both without their length; `tell` hears what was signed, or why not."""
    try:
        reader = Reader(request)
        kind = reader.byte()
        if kind == REQUEST_IDENTITIES:
            return IDENTITIES_ANSWER + struct.pack(">I", 1) + string(identity.blob) + string(b"of the exporter")
        if kind == SIGN_REQUEST:
            return SIGN_RESPONSE + string(_signature(identity, reader, tell))
    except ValueError as error:
        tell(f"signed nothing: {error}")
    return FAILURE


def _signature(identity: Identity, reader: Reader, tell: Tell) -> bytes:
    blob, data, flags = reader.string(), reader.string(), reader.uint32()
    if blob != identity.blob:
        raise ValueError("asked for a key that is not here")
    user = _user(data)
    signature = identity.sign(data, flags)
    tell(f"signed a login as {user}")
    return signature


def _user(data: bytes) -> str:
    """Who logs in with this (RFC 4252, section 7). Raises ValueError when it is no login."""
    reader = Reader(data)
    reader.string()  # the session's id
    kind, user, service, way = reader.byte(), reader.string(), reader.string(), reader.string()
    if kind != USERAUTH_REQUEST or service != b"ssh-connection" or way not in LOGINS:
        raise ValueError("asked for something that is no login")
    return user.decode(errors="replace")


class SigningStream(ByteStream):
    """The exporter's end of a connection to the service: what is sent to it is answered by what is received."""

    def __init__(self, identity: Identity, tell: Tell) -> None:
        self._identity, self._tell = identity, tell
        self._said = b""
        self._answers = b""
        self._ended = False
        self._changed = Event()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return what there is of the answers. Raises EndOfStream after the last one."""
        while not self._answers:
            if self._ended:
                raise EndOfStream
            self._changed = Event()
            await self._changed.wait()
        taken, self._answers = self._answers[:max_bytes], self._answers[max_bytes:]
        return taken

    async def send(self, item: bytes) -> None:
        """Take a piece of the requests. Raises ValueError when that is not what it is."""
        if self._ended:
            raise ClosedResourceError
        self._said += item
        while (request := self._next()) is not None:
            self._answers += string(answer(self._identity, request, self._tell))
        self._changed.set()

    def _next(self) -> bytes | None:
        if len(self._said) < 4:
            return None
        end = 4 + int.from_bytes(self._said[:4], "big")
        if end > REQUEST_BYTES:
            raise ValueError("this is not the protocol of an ssh agent")
        if len(self._said) < end:
            return None
        request, self._said = self._said[4:end], self._said[end:]
        return request

    async def send_eof(self) -> None:
        """Nothing more is asked."""
        self._ended = True
        self._changed.set()

    async def aclose(self) -> None:
        """End it."""
        await self.send_eof()
