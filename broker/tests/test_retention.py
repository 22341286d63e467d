"""How long and how much streams keep, and how often it is forced onto the disk."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from jsnats.broker import LabDir, _ensure, nats_server_binary, run_broker
from jsnats.broker._ensure import stream_config
from jsnats.broker._outside import Node, Outside
from jsnats.broker._retention import KINDS, Keep, limits, losses, parse_setting
from jsnats.broker.cli import broker_app
from jsnats.schemas import BLOBS, CONSOLE, EVENTS, LAB, LOGS, STREAMS, BrokerUnreachable, ConfigurationError
from jsnats.sdk import open_connection

DAY = 86_400
TOTAL = 1_000_000_000
M = 10**6


@pytest.mark.parametrize(
    ("text", "kind", "keep"),
    [
        ("events=365d:5G", "events", Keep(365 * DAY, 5 * 10**9)),
        ("logs=12h", "logs", Keep(12 * 3600)),
        ("console=:20M", "console", Keep(0, 20 * M)),
        ("blobs=default", "blobs", Keep()),
    ],
)
def test_a_setting(text: str, kind: str, keep: Keep) -> None:
    """An age, a size, both, or what it was at first."""
    assert parse_setting(text) == (kind, keep)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bogus=3d", "names no stream: use one of events, logs"),
        ("events", "is no retention"),
        ("events=3", "is no retention"),
        ("events=3w", "is no retention"),
        ("events=0d", "keeps nothing"),
        ("events=:5", "is no retention"),
        ("blobs=3d:5G", "give blobs a size only"),
    ],
)
def test_a_bad_setting(text: str, told: str) -> None:
    """One line that says how to write it."""
    with pytest.raises(ConfigurationError, match=told):
        parse_setting(text)


@pytest.mark.parametrize(
    "retention",
    [
        {},
        {"events": Keep(DAY)},
        {"events": Keep(0, 500 * M)},
        {"events": Keep(DAY, 5 * M), "blobs": Keep(0, 100 * M)},
        {kind: Keep(0, 190 * M) for kind in KINDS},
    ],
)
def test_sizes_fit_together(retention: dict[str, Keep]) -> None:
    """What is given to one is taken from the others, in proportion, and never from the buckets."""
    sizes = {spec.name: limits(spec, TOTAL, retention)[0] for spec in STREAMS}
    assert sum(sizes.values()) <= TOTAL
    assert sizes[LAB.name] == 5 * M
    for kind, spec in KINDS.items():
        keep = retention.get(kind, Keep())
        assert keep.size in (0, sizes[spec.name])
        assert stream_config(spec, TOTAL, retention)["max_age"] == (keep.age_s or spec.max_age_s) * 10**9
    if not retention.keys() & {"console", "logs"}:
        assert sizes[CONSOLE.name] / sizes[LOGS.name] == pytest.approx(0.25 / 0.045, rel=0.01)


def test_sizes_that_do_not_fit() -> None:
    """A stream that takes nearly all is refused, with what to do."""
    for size in (960 * M, 2000 * M):
        with pytest.raises(ConfigurationError, match=r"events \d.* GB?: too much|events 960.0 MB: too much"):
            limits(LOGS, TOTAL, {"events": Keep(0, size)})


def test_what_is_lost() -> None:
    """Only what is larger or older than will be kept; files are not dropped by that, but nothing fits any more."""
    assert list(losses(EVENTS, 10 * M, DAY, 9 * M, DAY / 2)) == []
    assert list(losses(EVENTS, 10 * M, DAY, 11 * M, 3 * DAY)) == [
        "JSNATS_EVENTS: the oldest 1.0 MB of 11.0 MB go",
        "JSNATS_EVENTS: all that is older than 1d goes, the oldest is 3d",
    ]
    assert "nothing new fits" in next(iter(losses(BLOBS, M, 0, 2 * M, 9 * DAY)))


async def retention(lab: Path, *words: str) -> Result:
    """Run `jsnats broker retention`."""
    return await asyncio.to_thread(CliRunner().invoke, broker_app, ["retention", "--dir", str(lab), *words])


async def test_the_command(tmp_path: Path) -> None:
    """A change holds at once and after a restart; one that drops data needs a word, and says what; one that fits
    nowhere changes nothing."""

    async def config(name: str) -> dict[str, Any]:
        found: dict[str, Any] = (await nc.api(f"STREAM.INFO.{name}"))["config"]
        return found

    async with run_broker(tmp_path, total_bytes=TOTAL, scheduler=False) as broker:
        nc = await open_connection(broker.context())
        done = await retention(tmp_path, "--set", "events=365d:300M", "--set", "logs=3d")
        assert done.exit_code == 0, done.output
        assert "(set)" in done.output
        events = await config(EVENTS.name)
        assert (events["max_age"], events["max_bytes"]) == (365 * DAY * 10**9, 300 * M)
        for _ in range(50):
            await nc.request("jsnats.event.lab.x", os.urandom(100_000))
        refused = await retention(tmp_path, "--set", "events=:2M")
        assert refused.exit_code == 2
        assert "JSNATS_EVENTS: the oldest 3.0 MB of 5.0 MB go" in refused.stderr
        assert "nothing was changed: say --yes" in refused.stderr
        assert (await retention(tmp_path, "--set", "console=:990M", "--yes")).exit_code == 2
        assert await config(EVENTS.name) == events
        assert (await retention(tmp_path, "--set", "events=:2M", "--yes")).exit_code == 0
        assert (await nc.api(f"STREAM.INFO.{EVENTS.name}"))["state"]["bytes"] <= 2 * M
        await nc.close()
    assert (await retention(tmp_path, "--set", "logs=default")).exit_code == 2  # nobody can say what that drops
    assert (await retention(tmp_path, "--set", "logs=default", "--yes")).exit_code == 0
    async with run_broker(tmp_path, scheduler=False) as broker:
        nc = await open_connection(broker.context())
        assert (await config(EVENTS.name))["max_bytes"] == 2 * M
        assert (await config(LOGS.name))["max_age"] == LOGS.max_age_s * 10**9
        await nc.close()
    shown = json.loads((await retention(tmp_path, "--json")).output)
    assert shown["events"] == {"bytes": 2 * M, "age_s": EVENTS.max_age_s}


async def test_a_broker_that_goes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not done is an error, with --yes too; it is done when the broker starts."""

    async def ensure_streams(*_: Any, **__: Any) -> None:
        raise BrokerUnreachable("it has gone")

    async with run_broker(tmp_path, total_bytes=TOTAL, scheduler=False):
        monkeypatch.setattr(_ensure, "ensure_streams", ensure_streams)
        for words in ([], ["--yes"]):
            done = await retention(tmp_path, "--set", "logs=3d", *words)
            assert (done.exit_code, done.stderr) == (BrokerUnreachable.exit_code, "error: it has gone\n")
    assert LabDir(tmp_path).settings().retention["logs"] == Keep(3 * DAY)


async def test_how_often_it_is_forced_onto_the_disk(tmp_path: Path) -> None:
    """`sync` stands in the server's configuration, is kept for the next start, and has to be a time."""
    async with run_broker(tmp_path, total_bytes=TOTAL, scheduler=False, sync="always"):
        assert '"sync_interval": "always"' in (tmp_path / "nats.conf").read_text()
    async with run_broker(tmp_path, scheduler=False):
        assert LabDir(tmp_path).settings().sync == "always"
    with pytest.raises(ConfigurationError, match="neither `always` nor a time"):
        async with run_broker(tmp_path, sync="often"):
            pass


def test_servers_outside_take_it(tmp_path: Path) -> None:
    """nats-server reads what `jsnats broker config --sync` writes."""
    lab = LabDir(tmp_path / "lab")
    lab.init()
    files = lab.configure_outside(Outside(nodes=(Node("127.0.0.1"),), store=str(tmp_path), sync="10s"), TOTAL)
    assert '"sync_interval": "10s"' in files[0].read_text()
    subprocess.run([nats_server_binary(), "-t", "-c", files[0]], check=True, capture_output=True)
