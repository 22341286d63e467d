"""An agent follows its files: what is written anew is made anew, when nobody holds it, and nothing else is touched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jsnats.agent import _reload, load
from jsnats.agent._agent import Hosted, hosted, hosting
from jsnats.agent._config import LoadedExporter
from jsnats.agent._reload import Reloader
from jsnats.broker.testing import TestBroker
from jsnats.sdk import AsyncLab

NAMES = ("rack-1", "rack-2", "rack-3")


def text(name: str, label: str = "a", *, ref: str = "") -> str:
    """An exporter of a Board, with what it refers to."""
    more = f"\n  shared: {{ref: '{ref}'}}" if ref else ""
    return f"name: {name}\nlabels: {{rev: {label}}}\nexport:\n  board: {{type: jsnats.agent.testing.Board}}{more}\n"


class Running:
    """An agent and what follows its file; each `look` is one, so nothing happens in between."""

    def __init__(self, file: Path, reloader: Reloader, agent: Any) -> None:
        self.file = file
        self.reloader = reloader
        self.agent = agent

    def exporter(self, name: str) -> Any:
        """The exporter that runs under that name."""
        return self.agent.running[name]

    async def write(self, *texts: str) -> None:
        """Write the file, and have it read."""
        self.file.write_text("---\n".join(texts))
        await self.reloader.look()
        await self.reloader.look()
        await self.settle()

    async def settle(self) -> None:
        """Let what was started be there."""
        await self.agent.settled()


@pytest.fixture
def run(broker: TestBroker, tmp_path: Path) -> Any:
    """Host exporters of a file."""

    @asynccontextmanager
    async def run(*texts: str) -> AsyncIterator[Running]:
        file = tmp_path / "exporters.yaml"
        file.write_text("---\n".join(texts))
        for name in NAMES:
            broker.add("exporter", name)

        def host(each: LoadedExporter) -> Hosted:
            return hosted(each, broker.context(each.name), "required")

        loaded = load([file])
        async with hosting([host(each) for each in loaded]) as agent:
            await agent.settled()
            assert not agent.failures
            yield Running(file, Reloader([file], loaded, host, agent), agent)

    return run


async def test_only_what_changed_is_made_anew(run: Any, lab: AsyncLab) -> None:
    """The other one keeps its instance and its drivers."""
    async with run(text("rack-1"), text("rack-2")) as running:
        one, two = running.exporter("rack-1"), running.exporter("rack-2")
        await running.write(text("rack-1", "b"), text("rack-2"))
        assert running.exporter("rack-1") is not one
        assert one.spec.root.children["board"].told[-1] == "close"
        assert running.exporter("rack-2") is two
        assert two.spec.root.children["board"].told == ["reset"]
        assert (await lab.tree("rack-1")).labels == {"rev": "b"}


async def test_a_held_one_waits_for_the_end_of_its_lease(
    run: Any, lab: AsyncLab, leases: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes on as it was, as is said, is not granted again in between, and comes back changed."""
    caplog.set_level("INFO", logger="jsnats.agent")
    async with run(text("rack-1")) as running:
        one = running.exporter("rack-1")
        lease = await leases.grant(exporter="rack-1")
        await leases.until("leased", "rack-1", epoch=lease.epoch)
        await running.write(text("rack-1", "b"))
        assert running.exporter("rack-1") is one
        await running.reloader.look()
        assert caplog.text.count("rack-1: the file has changed, which counts when the lease is over") == 1
        await leases.end(exporter="rack-1")
        await leases.until("starting", "rack-1", ended=lease.epoch)
        await running.reloader.look()
        await running.settle()
        assert (await lab.tree("rack-1")).labels == {"rev": "b"}
        await leases.until("available", "rack-1", ended=lease.epoch)


async def test_a_change_that_is_taken_back(run: Any, leases: Any) -> None:
    """While the exporter was held: it is free for the next one."""
    async with run(text("rack-1")) as running:
        one = running.exporter("rack-1")
        lease = await leases.grant(exporter="rack-1")
        await leases.until("leased", "rack-1", epoch=lease.epoch)
        await running.write(text("rack-1", "b"))
        await running.write(text("rack-1"))
        await leases.end(exporter="rack-1")
        await leases.until("available", "rack-1", ended=lease.epoch)
        await running.reloader.look()
        assert running.exporter("rack-1") is one


async def test_added_and_removed(run: Any, leases: Any) -> None:
    """What was added starts, what was removed stops."""
    async with run(text("rack-1"), text("rack-2")) as running:
        await running.write(text("rack-2"), text("rack-3"))
        assert sorted(running.agent.running) == ["rack-2", "rack-3"]
        await leases.until("gone", "rack-1")
        await leases.until("available", "rack-3")


async def test_a_faulty_file_changes_nothing(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Each fault is told in a line; what runs goes on, and the next version is read."""
    async with run(text("rack-1")) as running:
        one = running.exporter("rack-1")
        await running.write("name: rack-1\nlease: maybe\nexport: {x: {}}\n")
        assert running.exporter("rack-1") is one
        assert f"{running.file}:2: lease: must be required or if-held" in caplog.text
        assert f"{running.file}:3: export.x: needs one of type, ref or children" in caplog.text
        await running.write(text("rack-1", "b"))
        assert running.exporter("rack-1") is not one


async def test_what_refers_to_a_part_of_another(run: Any) -> None:
    """A new one gets the driver that runs; when the part's own exporter changes, who refers to it changes too."""
    async with run(text("rack-1"), text("rack-2")) as running:
        one, two = running.exporter("rack-1"), running.exporter("rack-2")
        await running.write(text("rack-1"), text("rack-2", ref="rack-1:board"))
        assert running.exporter("rack-1") is one
        board = one.spec.root.children["board"]
        assert running.exporter("rack-2").spec.root.children["shared"] is board
        assert board.told == ["reset"]
        await running.write(text("rack-1", "b"), text("rack-2", ref="rack-1:board"))
        assert running.exporter("rack-2") is not two
        fresh = running.exporter("rack-1").spec.root.children["board"]
        assert fresh is not board
        assert running.exporter("rack-2").spec.root.children["shared"] is fresh


async def test_those_that_refer_to_each_other_change_together(run: Any, leases: Any) -> None:
    """Neither is touched while one of them is held."""
    texts = text("rack-1"), text("rack-2", ref="rack-1:board")
    async with run(*texts) as running:
        one, two = running.exporter("rack-1"), running.exporter("rack-2")
        lease = await leases.grant(exporter="rack-2")
        await leases.until("leased", "rack-2", epoch=lease.epoch)
        await running.write(text("rack-1", "b"), texts[1])
        assert running.exporter("rack-1") is one
        await leases.end(exporter="rack-2")
        await leases.until("available", "rack-2", ended=lease.epoch)
        await running.reloader.look()
        await running.settle()
        assert running.exporter("rack-1") is not one
        assert running.exporter("rack-2") is not two


async def test_files_are_followed(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to ask."""
    monkeypatch.setattr(_reload, "LOOK_S", 0.01)
    async with run(text("rack-1")) as running:
        one = running.exporter("rack-1")
        following = asyncio.create_task(running.reloader.run())
        running.file.write_text(text("rack-1", "b"))
        while running.agent.running.get("rack-1") in (one, None):
            await asyncio.sleep(0.01)
        following.cancel()
