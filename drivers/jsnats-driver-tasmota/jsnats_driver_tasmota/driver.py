"""The exporter's side: a plug or relay with Tasmota's firmware, switched over an MQTT broker."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from typing import Annotated, Literal

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import Field
from pydantic.dataclasses import dataclass

from jsnats.driver import export
from jsnats_driver_power.common import PowerReading
from jsnats_driver_power.driver import SwitchInterface

from .plug import Plug
from .topics import Topics, energy_reading

TLS_PORT = 8883

Seconds = Annotated[float, Field(gt=0, le=3600)]


@dataclass(kw_only=True)
class TasmotaPower(SwitchInterface):
    """A Tasmota plug. Its state is what it confirms itself, never what was sent.

    The broker is at `host` and `port`, or at the path `host` with `transport: unix`. `topic` is the plug's name there;
    a relay with other topics has `cmnd_topic` and `stat_topic` instead. `tls` is by default what the port says: 8883 is
    encrypted. `ca_file` are the authorities to trust instead of the system's, `verify: false` trusts anybody. `timeout`
    is how many s an answer may take, `interval` s lie between readings. The connection is kept while the agent runs,
    and made again when it is lost.
    """

    host: str = Field(min_length=1)
    port: int = Field(default=1883, ge=1, le=65535)
    transport: Literal["tcp", "websockets", "unix"] = "tcp"
    tls: bool | None = None
    ca_file: str | None = None
    verify: bool = True
    username: str | None = None
    password: str | None = Field(default=None, repr=False)
    client_id: str | None = None
    topic: str | None = None
    cmnd_topic: str | None = None
    stat_topic: str | None = None
    timeout: Seconds = 10.0
    interval: Seconds = 1.0
    off_at_end: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.password is not None and self.username is None:
            raise ValueError("a password needs a username: MQTT has none without")
        self._topics = self._named()
        where = self.host if self.transport == "unix" else f"{self.host}:{self.port}"
        self._plug = Plug(self._topics, f"MQTT broker {where}", self.timeout, self.logger)

    def _named(self) -> Topics:
        both = (self.cmnd_topic, self.stat_topic)
        if self.topic is not None and both == (None, None):
            return Topics.of(self.topic)
        if self.topic is None and self.cmnd_topic is not None and self.stat_topic is not None:
            return Topics(self.cmnd_topic, self.stat_topic)
        raise ValueError("give either topic (the plug's name, such as plug-3), or cmnd_topic and stat_topic")

    async def start(self) -> None:
        """Begin to connect to the broker. Raises OSError for a `ca_file` that cannot be read."""
        client = Client(CallbackAPIVersion.VERSION2, client_id=self.client_id or "", transport=self.transport)
        if self.username is not None:
            client.username_pw_set(self.username, self.password)
        if self._encrypted():
            client.tls_set_context(self._trust())
        self._plug.logger = self.logger  # it has the exporter's name by now
        await self._plug.start(client, self.host, self.port)

    async def stop(self) -> None:
        """Leave the broker."""
        await self._plug.stop()

    async def close(self) -> None:
        """Switch off when a lease ends, unless `off_at_end` is false. Raises as `off` when the plug is not there.

        Without `start` there was no lease, and there is nothing to do.
        """
        if self.off_at_end and self._plug.started:
            await self.off()

    @export
    async def on(self) -> None:
        """Switch on, and return when the plug has confirmed.

        Raises ConnectionError at once while broker or plug are not there, TimeoutError without an answer.
        """
        await self._plug.switch(True)

    @export
    async def off(self) -> None:
        """Switch off, and return when the plug has confirmed. Raises as `on`."""
        await self._plug.switch(False)

    @export
    async def is_on(self) -> bool:
        """Ask the plug whether it is on. Raises as `on`."""
        return await self._plug.is_on()

    @export
    async def read(self) -> AsyncGenerator[PowerReading, None]:
        """Ask for a reading (V, A) each `interval` s until the reader stops.

        Raises NotImplementedError for a plug without a meter, else as `on`.
        """
        while True:
            yield energy_reading(await self._plug.energy(), self._topics.channel)
            await asyncio.sleep(self.interval)

    def _encrypted(self) -> bool:
        return self.port == TLS_PORT and self.transport != "unix" if self.tls is None else self.tls

    def _trust(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise OSError(f"ca_file {self.ca_file} has no certificates to trust: {error}") from error
        if not self.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
