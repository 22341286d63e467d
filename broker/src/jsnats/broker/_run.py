"""A broker, whole: its directory, its credentials, its process, its streams."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

from jsnats.schemas import ADMIN, SCHEDULER, ConfigurationError
from jsnats.sdk import Context

from ._config import BrokerConfig
from ._ensure import default_total
from ._lab_dir import BROKER, LabDir
from ._serve_scheduler import SCHEDULER_NAME
from ._server import BrokerProcess, reachable
from ._services import admins_of, provision, serving
from ._settings import Settings


class Broker:
    """A running broker. `lab` is its directory, `process` the server in it, `url` what a client on this host uses."""

    def __init__(self, lab: LabDir, process: BrokerProcess) -> None:
        self.lab = lab
        self.process = process
        self.url = _url(reachable(process.config.host), process.config.port)

    def context(self, name: str = BROKER) -> Context:
        """The context of a principal on this host, by default the admin. Raises ConfigurationError if there is none."""
        if not self.process.config.auth:
            return Context(url=self.url, name=name, role=ADMIN)
        return replace(self.lab.context(name), url=self.url)

    def is_admin(self, token: str) -> bool:
        """Whether that principal may do anything; without auth everybody may."""
        if not self.process.config.auth:
            return True
        return admins_of(self.lab)(token)

    @property
    def mqtt(self) -> int:
        """The port for MQTT, 0 for none."""
        return self.process.config.mqtt

    async def add(self, role: str, name: str) -> Context:
        """Let a principal in, now (see `LabDir.add`)."""
        return await asyncio.to_thread(self.lab.add, role, name)

    async def revoke(self, name: str) -> None:
        """Lock a principal out, now; its connections are dropped."""
        await asyncio.to_thread(self.lab.revoke, name)

    async def restart(self) -> None:
        """Stop the server in order and start it again on the same port and store."""
        await self.process.stop()
        await self.process.start()

    async def kill(self) -> None:
        """Kill the server as a crash would, and return when its successor serves."""
        await self.process.kill()
        await self.process.ready.wait()


@asynccontextmanager
async def run_broker(
    lab_dir: str | os.PathLike[str] | None = None,
    *,
    listen: str | None = None,
    port: int | None = 0,
    total_bytes: int | None = None,
    auth: bool = True,
    policy: str | os.PathLike[str] | None = None,
    mqtt: int | None = None,
    sync: str | None = None,
    scheduler: bool = True,
    process: Callable[..., BrokerProcess] = BrokerProcess,
) -> AsyncIterator[Broker]:
    """Run a broker in `lab_dir` (see `default_lab_dir`) for as long as the `async with`.

    `port` 0 takes a free one and keeps it through restarts; None for `port` or `listen` is what it was the last time:
    the credentials handed out name it. `total_bytes` is what it may store; the first run
    chooses (see `default_total`), later ones keep it. Without `auth` it listens on loopback only. `policy` is the file
    that says what users may ask of the scheduler, by default `policy.yaml` in the directory of the lab. `mqtt` is a
    port for MQTT 3.1.1, 0 for a free one: there, viewers with a password (`LabDir.add_mqtt`) read along. `sync` is how
    often data is forced onto the disk: "always", "10s", or None for what it was the last time, at first 2 min.
    Without `scheduler` nobody grants leases but those that run elsewhere (`jsnats scheduler run`).
    `process` makes the server.
    Raises ConfigurationError when the lab is already running, BrokerUnfit when the server cannot be started.
    """
    lab = LabDir(lab_dir)
    await asyncio.to_thread(lab.init)
    await asyncio.to_thread(lab.add, SCHEDULER, SCHEDULER_NAME)
    with lab.lock() as lock:
        listen = listen or lab.settings().host
        port = lab.settings().port if port is None else port
        settings = settings_for(lab, listen, port or free_port(listen), total_bytes, auth)
        settings = replace(settings, mqtt=0 if mqtt is None else mqtt or free_port(listen))
        settings = replace(settings, sync=settings.sync if sync is None else sync)
        async with _started(lab, settings, partial(process, lock=lock)) as server:
            broker = Broker(lab, server)
            await provision(broker.context(), settings.store_bytes, retention=settings.retention)
            services = broker.context(SCHEDULER_NAME)
            rules = policy or lab.policy
            async with serving(services, broker.is_admin, policy=rules, scheduler=scheduler, alone=True):
                yield broker


@asynccontextmanager
async def _started(
    lab: LabDir, settings: Settings, process: Callable[[BrokerConfig], BrokerProcess]
) -> AsyncIterator[BrokerProcess]:
    """The server with these settings. One that does not start leaves the lab with those that it had."""
    before = lab.settings()
    async with AsyncExitStack() as stack:
        try:
            server = await stack.enter_async_context(process(lab.configure(settings)))
        except BaseException:
            lab.configure(before)
            raise
        yield server


def settings_for(lab: LabDir, listen: str, port: int, total_bytes: int | None, auth: bool) -> Settings:
    """What the lab's broker is to be started with."""
    known = lab.settings()
    store = total_bytes or known.store_bytes or default_total(lab.path)
    # The shares add up to all of it; the rest is for streams of others. A smaller store comes into force only
    # after the streams were made smaller, so the server may not refuse the old ones when it starts.
    room = max(store, known.store_bytes) * 5 // 4
    # Credentials are used on other hosts, where an address like 0.0.0.0 means nothing.
    url = _url(socket.gethostname() if listen != reachable(listen) else listen, port)
    return replace(known, host=listen, port=port, url=url, store_bytes=store, max_file=room, auth=auth)


def _url(host: str, port: int) -> str:
    return f"nats://[{host}]:{port}" if ":" in host else f"nats://{host}:{port}"


def free_port(listen: str) -> int:
    """A port that nobody has there. Raises ConfigurationError for an address that is none of this host."""
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((listen, 0))
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {listen}: {error.strerror}") from error
        return int(probe.getsockname()[1])
