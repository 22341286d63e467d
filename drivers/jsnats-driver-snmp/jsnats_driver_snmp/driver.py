"""The exporter's side: an outlet of a PDU."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.dataclasses import dataclass

from jsnats.driver import export
from jsnats_driver_power.driver import SwitchInterface, WithoutMeter

from .session import Agent, Auth, Priv, Session, Version, no_answer

POLL_S = 0.2
"""Seconds between two looks at an outlet that has not switched yet."""


def _oid(text: str) -> str:
    numbers = text.removeprefix(".")
    known = re.fullmatch(r"([01]\.[1-3]?\d|2\.\d+)(\.\d+)*", numbers)
    if not known or any(int(each) >> 32 for each in numbers.split(".")):
        raise ValueError(f"{text!r} is no OID: numbers with dots between, as 1.3.6.1.4.1.318.1.1.12.3.3.1.1.4")
    return numbers


Key = Annotated[str | None, Field(min_length=8)]
Number = Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]


@dataclass(kw_only=True)
class SNMPServer(WithoutMeter, SwitchInterface):
    """An outlet of a PDU that is switched over SNMP: the integer at `oid`.`plug`, `on_value` or `off_value`.

    Version 3 has a `user`, versions 1 and 2c a `community`. `timeout` s is what a call may take until the outlet is
    seen switched; within that a request is repeated `retries` times.
    """

    host: Annotated[str, Field(min_length=1)]
    plug: Annotated[int, Field(ge=0, lt=1 << 32)]
    port: Annotated[int, Field(ge=1, le=65535)] = 161
    oid: Annotated[str, AfterValidator(_oid)] = "1.3.6.1.4.1.13742.6.4.1.2.1.2.1"
    version: Annotated[Version, BeforeValidator(str)] = "3"
    community: str | None = Field(default=None, min_length=1, repr=False)
    user: Annotated[str | None, Field(min_length=1, max_length=32)] = None
    auth_protocol: Auth = "NONE"
    auth_key: Key = Field(default=None, repr=False)
    priv_protocol: Priv = "NONE"
    priv_key: Key = Field(default=None, repr=False)
    on_value: Number = 1
    off_value: Number = 0
    timeout: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 5.0
    retries: Annotated[int, Field(ge=0, le=20)] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.on_value == self.off_value:
            raise ValueError("on_value and off_value are the same")
        self._check_version_3() if self.version == "3" else self._check_community()
        self._outlet = f"{self.oid}.{self.plug}"
        self._agent = Agent(
            host=self.host,
            port=self.port,
            wait_s=self.timeout / (self.retries + 1),
            retries=self.retries,
            version=self.version,
            community=self.community or "",
            user=self.user or "",
            auth=self.auth_protocol,
            auth_key=self.auth_key,
            priv=self.priv_protocol,
            priv_key=self.priv_key,
        )

    def _check_version_3(self) -> None:
        if self.community:
            raise ValueError("community is for versions 1 and 2c")
        if not self.user:
            raise ValueError("version 3 needs a user")
        for name in ("auth", "priv"):
            if (getattr(self, f"{name}_protocol") == "NONE") != (getattr(self, f"{name}_key") is None):
                raise ValueError(f"{name}_protocol and {name}_key go together")
        if self.priv_protocol != "NONE" and self.auth_protocol == "NONE":
            raise ValueError("privacy needs authentication: give auth_protocol and auth_key")

    def _check_community(self) -> None:
        if not self.community:
            raise ValueError(f"version {self.version} needs a community")
        if self.user or self.auth_key or self.priv_key or {self.auth_protocol, self.priv_protocol} != {"NONE"}:
            raise ValueError("user, auth_* and priv_* are for version 3")

    async def on(self) -> None:
        """Switch on, and see it on. Raises as `off`."""
        await self._switch(self.on_value)

    async def off(self) -> None:
        """Switch off, and see it off.

        Raises TimeoutError for a PDU that does not answer or an outlet that stays as it was, ConnectionError for one
        that refuses the user, PermissionError (as DriverOSError) for one that is read-only, ValueError for no outlet.
        """
        await self._switch(self.off_value)

    @export
    async def is_on(self) -> bool:
        """Ask the PDU whether the outlet is on. Raises ValueError when it is neither on nor off."""
        async with self._session() as session:
            found = await session.get(self._outlet)
        if found not in (self.on_value, self.off_value):
            raise ValueError(f"outlet {self.plug} of {self._agent} reads {found}: neither on_value nor off_value")
        return found == self.on_value

    async def _switch(self, value: int) -> None:
        found: int | None = None
        try:
            async with self._session() as session:
                await session.set(self._outlet, value)
                while (found := await session.get(self._outlet)) != value:  # noqa: ASYNC110 - a PDU has no events
                    await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            if found is None:
                raise
            told = f"{self._agent} took {value} for outlet {self.plug}, which still reads {found}"
            raise TimeoutError(f"{told} after {self.timeout:g} s") from error
        self.logger.info("outlet %s of %s reads %s", self.plug, self._agent, value)

    @asynccontextmanager
    async def _session(self) -> AsyncGenerator[Session, None]:
        try:
            async with asyncio.timeout(self.timeout), Session.open(self._agent) as session:
                yield session
        except TimeoutError as error:
            raise TimeoutError(str(error) or no_answer(self._agent)) from error
