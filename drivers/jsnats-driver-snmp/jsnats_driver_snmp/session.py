"""A conversation with an SNMP agent, and what pysnmp says in it as Python's own exceptions.

An engine serves one conversation. One that is kept would hold the agent's boots and time of before it was restarted,
and the requests of a call that was cancelled. To make it takes 0.2 s of a processor, as pysnmp compiles its MIBs each
time: that happens in a thread.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio.to_thread
from pyasn1.type.univ import Integer
from pysnmp.error import PySnmpError
from pysnmp.hlapi.v3arch import asyncio as hlapi
from pysnmp.proto import errind

Version = Literal["1", "2c", "3"]
Auth = Literal["NONE", "MD5", "SHA", "SHA224", "SHA256", "SHA384", "SHA512"]
Priv = Literal["NONE", "DES", "AES"]

_AUTH: dict[Auth, Any] = {
    "NONE": hlapi.USM_AUTH_NONE,
    "MD5": hlapi.USM_AUTH_HMAC96_MD5,
    "SHA": hlapi.USM_AUTH_HMAC96_SHA,
    "SHA224": hlapi.USM_AUTH_HMAC128_SHA224,
    "SHA256": hlapi.USM_AUTH_HMAC192_SHA256,
    "SHA384": hlapi.USM_AUTH_HMAC256_SHA384,
    "SHA512": hlapi.USM_AUTH_HMAC384_SHA512,
}
_PRIV: dict[Priv, Any] = {
    "NONE": hlapi.USM_PRIV_NONE,
    "DES": hlapi.USM_PRIV_CBC56_DES,
    "AES": hlapi.USM_PRIV_CFB128_AES,
}
_REFUSALS = {
    errind.UnknownUserName: "no such user",
    errind.WrongDigest: "wrong auth_key or auth_protocol",
    errind.DecryptionError: "wrong priv_key or priv_protocol",
    errind.UnsupportedSecurityLevel: "this user needs, or cannot have, authentication or privacy",
}
_FORBIDDEN = ("noAccess", "authorizationError")
_READ_ONLY = (*_FORBIDDEN, "notWritable", "readOnly", "noSuchName")
_WRONG = ("wrongType", "wrongLength", "wrongEncoding", "wrongValue", "badValue", "inconsistentValue")


@dataclass(frozen=True, kw_only=True)
class Agent:
    """Whom to ask, and as whom. A request is sent again after `wait_s` seconds, `retries` times."""

    host: str
    port: int
    wait_s: float
    retries: int
    version: Version
    community: str = field(repr=False)
    user: str
    auth: Auth
    auth_key: str | None = field(repr=False)
    priv: Priv
    priv_key: str | None = field(repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Session:
    """Requests to one agent, until `open` ends."""

    def __init__(self, agent: Agent, engine: Any, target: Any) -> None:
        self._agent, self._engine, self._target = agent, engine, target
        self._credentials = _credentials(agent)

    @classmethod
    @asynccontextmanager
    async def open(cls, agent: Agent) -> AsyncGenerator[Session, None]:
        """Make a session; nothing is sent. Raises ConnectionError for a host that has no address."""
        target = await _target(agent)
        engine = await anyio.to_thread.run_sync(_engine)
        try:
            yield cls(agent, engine, target)
        finally:
            engine.close_dispatcher()

    async def get(self, oid: str) -> int:
        """Read a number.

        Raises ValueError where there is none, PermissionError where it may not be read, ConnectionError for credentials
        that are refused, TimeoutError when nobody answers.
        """
        status, value = await self._ask(hlapi.get_cmd, hlapi.ObjectType(hlapi.ObjectIdentity(oid)))
        if status in _FORBIDDEN:
            raise PermissionError(f"{self._agent} does not let {oid} be read: {status}")
        if status or not isinstance(value, Integer):
            raise ValueError(f"{self._agent} has no number at {oid}: {status or value.prettyPrint()}")
        return int(value)

    async def set(self, oid: str, value: int) -> None:
        """Write a number.

        Raises as `get`, and PermissionError where it may only be read, ValueError for a value that the agent does not
        take, OSError when it failed.
        """
        bound = hlapi.ObjectType(hlapi.ObjectIdentity(oid), hlapi.Integer32(value))
        status, _ = await self._ask(hlapi.set_cmd, bound)
        if not status:
            return
        await self.get(oid)  # what is not there is not writable either: say which it is
        if status in _READ_ONLY:
            raise PermissionError(f"{self._agent} lets {oid} only be read: {status}")
        if status in _WRONG:
            raise ValueError(f"{self._agent} does not take {value} at {oid}: {status}")
        raise OSError(f"{self._agent} failed to write {value} at {oid}: {status}")

    async def _ask(self, command: Any, bound: Any) -> tuple[str, Any]:
        """Return the name of the error, if any, and the value."""
        context = hlapi.ContextData()
        try:
            failure, status, _, answers = await command(
                self._engine, self._credentials, self._target, context, bound, lookupMib=False
            )
        except PySnmpError as error:
            raise ConnectionError(f"{self._agent} cannot be asked: {error}") from error
        if failure:
            raise _failed(self._agent, failure)
        return (status.prettyPrint() if status else ""), (answers[0][1] if answers else None)


def _failed(agent: Agent, failure: errind.ErrorIndication) -> OSError:
    if isinstance(failure, errind.RequestTimedOut):
        return TimeoutError(no_answer(agent))
    who = f"user {agent.user!r}" if agent.version == "3" else "the community"
    why = _REFUSALS.get(type(failure), str(failure))
    return ConnectionError(f"{agent} refuses {who}: {why}")


def no_answer(agent: Agent) -> str:
    """Say what silence may mean: nobody answers to a wrong community, and net-snmp not to a wrong privacy key."""
    asked = ("priv_key" if agent.priv != "NONE" else "") if agent.version == "3" else "community"
    return f"{agent} does not answer to SNMP" + (f", or not to this {asked}" if asked else "")


def _engine() -> Any:
    engine = hlapi.SnmpEngine()
    # What the first request would load, and the loop wait for.
    engine.get_mib_builder().load_modules("PYSNMP-USM-MIB", "__PYSNMP-USM-MIB", "SNMPv2-TM", "__SNMPv2-MIB")
    return engine


def _credentials(agent: Agent) -> Any:
    if agent.version != "3":
        return hlapi.CommunityData(agent.community, mpModel=int(agent.version != "1"))
    return hlapi.UsmUserData(
        agent.user,
        authKey=agent.auth_key,
        privKey=agent.priv_key,
        authProtocol=_AUTH[agent.auth],
        privProtocol=_PRIV[agent.priv],
    )


async def _target(agent: Agent) -> Any:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(agent.host, agent.port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise ConnectionError(f"{agent.host} has no address: {error}") from error
    family, *_, address = found[0]
    kind = hlapi.Udp6TransportTarget if family == socket.AF_INET6 else hlapi.UdpTransportTarget
    return await kind.create(address[:2], timeout=agent.wait_s, retries=agent.retries)
