"""The reload of brokers that somebody else runs, asked for in the system account."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from jsnats.schemas import BrokerUnfit, BrokerUnreachable
from jsnats.sdk import Connection, Context, Disconnected, Message, NoResponders, open_connection

from ._sites import account

ANSWER_S = 2.0
"""How long servers may take to show up."""
RELOAD_S = 10.0
REACH_S = 2.0
"""How long a server may take to greet who connects."""


def reload_servers(system: Context, expected: int, sites: Collection[str] = ()) -> list[str]:
    """Make every server that can be reached read its configuration again; return the names of those that did.

    Links of others than `sites` are dropped, which nats-server's reload does not do. Of `expected` servers those that
    are down read it when they start. Raises BrokerUnfit with the words of a server that refuses it, BrokerUnreachable,
    within REACH_S, if there is none.
    """
    reachable = _reachable(system.url.split(","))
    if not reachable:
        raise BrokerUnreachable(f"no broker at {system.url}")
    accounts = {account(site) for site in sites}
    return asyncio.run(_reload_all(replace(system, url=",".join(reachable)), expected, accounts))


def _reachable(urls: list[str]) -> list[str]:
    """Those that greet who connects.

    Asked in threads that nobody waits for: the name of a host is looked up for 10 s where no name server answers, and
    nothing can stop that.
    """
    found: list[str] = []

    def knock(url: str) -> None:
        address = urlsplit(url)
        with (
            suppress(OSError),
            socket.create_connection((address.hostname or "", address.port or 0), timeout=REACH_S) as probe,
        ):
            if probe.recv(1):  # a frozen server accepts and is silent
                found.append(url)

    threads = [threading.Thread(target=knock, args=(url,), daemon=True) for url in urls]
    end = time.monotonic() + REACH_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return list(found)


async def _reload_all(system: Context, expected: int, accounts: Collection[str]) -> list[str]:
    async with await open_connection(system, name="jsnats reload") as nc:
        servers = await ask_servers(nc, "IDZ", expected)
        for server in servers:
            await _reload(nc, server)
            await _drop_links(nc, server, accounts)
    return sorted(str(server["name"]) for server in servers)


async def ask_servers(nc: Connection, what: str, expected: int) -> list[dict[str, Any]]:
    """Ask every server in the system account, and return the answers of those that are there of `expected` ones."""
    found: list[dict[str, Any]] = []
    enough = asyncio.Event()

    def take(message: Message) -> None:
        found.append(json.loads(message.data))
        if len(found) >= expected:
            enough.set()

    inbox = f"_INBOX.{secrets.token_hex(8)}"
    await nc.listen(inbox, take)
    await nc.flush()
    await nc.publish(f"$SYS.REQ.SERVER.PING.{what}", reply=inbox)
    try:
        async with asyncio.timeout(ANSWER_S):
            await enough.wait()
    except TimeoutError:
        pass
    return found


async def _reload(nc: Connection, server: dict[str, Any]) -> None:
    try:
        answer = await _ask(nc, server, "RELOAD")
    except TimeoutError as error:
        raise BrokerUnfit(f"{server['name']} did not say that it has read its configuration: see its log") from error
    if "error" in answer:
        told = answer["error"].get("description", answer["error"])
        raise BrokerUnfit(f"{server['name']} refused its new configuration: {told}")


async def _drop_links(nc: Connection, server: dict[str, Any], kept: Collection[str]) -> None:
    try:
        links = (await _ask(nc, server, "LEAFZ")).get("data", {}).get("leafs") or ()
        for link in links:
            if link["account"].startswith(account("")) and link["account"] not in kept:
                await _ask(nc, server, "KICK", {"cid": link["id"]})
    except TimeoutError as error:
        raise BrokerUnfit(f"{server['name']} did not say which sites are connected: see its log") from error


async def _ask(nc: Connection, server: dict[str, Any], what: str, about: object = None) -> dict[str, Any]:
    """The answer of a server; an empty one if it went meanwhile, and so begins with the new configuration. Asked again
    after an outage: the one that went may be another, which we were at. Raises TimeoutError."""
    body = json.dumps(about).encode() if about else b""
    async with asyncio.timeout(RELOAD_S):
        while True:
            await nc.wait_connected()
            try:
                message = await nc.request(f"$SYS.REQ.SERVER.{server['id']}.{what}", body, timeout_s=RELOAD_S)
            except Disconnected:
                continue
            except NoResponders:
                return {}
            answer: dict[str, Any] = json.loads(message.data)
            return answer
