"""A site and its hub: the files and the commands. What they do together is in the end-to-end tests."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from pathlib import Path
from typing import cast

import pytest
from typer.testing import CliRunner

from jsnats.broker import LabDir, _links, nats_server_binary
from jsnats.broker._sites import Leaf, check_site
from jsnats.broker.cli import auth_app, broker_app
from jsnats.broker.testing import free_port, outside_lab
from jsnats.schemas import ConfigurationError, LinkRecord
from jsnats.sdk import Connection, Disconnected, Record

RUN = CliRunner()


def config(folder: Path, *more: str) -> tuple[int, str]:
    """`jsnats broker config` of a lab in that folder."""
    args = ["config", "--dir", str(folder), "--cluster", "127.0.0.1", "--store", str(folder / "data"), *more]
    done = RUN.invoke(broker_app, args)
    return done.exit_code, done.output


def test_a_file_is_carried_from_the_hub_to_the_site(tmp_path: Path) -> None:
    """Both ends are then configured, as nats-server takes it; only the owner can read the secret, and a second `add`
    gives the same."""
    hub, site, carried = tmp_path / "hub", tmp_path / "site", tmp_path / "carried" / "berlin.json"
    carried.parent.mkdir()
    assert config(hub, "--leafnodes", "7422")[0] == 0
    add = ["add", "site", "berlin", "--dir", str(hub), "--output", str(carried)]
    assert RUN.invoke(auth_app, add).exit_code == 0
    first = carried.read_text()
    assert RUN.invoke(auth_app, add).exit_code == 0
    assert carried.read_text() == first
    assert carried.stat().st_mode & 0o777 == 0o600
    assert json.loads(first)["urls"] == ["nats-leaf://127.0.0.1:7422"]
    assert config(site, "--leaf", str(carried))[0] == 0
    for lab in (hub, site):
        path = lab / "conf" / "127-0-0-1.conf"
        done = subprocess.run([nats_server_binary(), "-t", "-c", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_visitor_has_a_context_of_the_site(tmp_path: Path) -> None:
    """Which leads to the hub; `auth ls` says where, and `revoke` of the site takes everybody of it out."""
    hub = outside_lab(tmp_path, leafnodes=free_port())
    hub.add_site("berlin")
    hub.add("user", "ann")
    context = hub.add("user", "ann", site="berlin")
    assert (context.name, context.token, context.site) == ("ann@hub", "ann=40hub", "berlin")
    assert hub.context("ann", site="berlin") == context != hub.context("ann")
    listed = RUN.invoke(auth_app, ["ls", "--dir", str(hub.path)]).output.splitlines()
    assert {"user       ann", "user       ann@hub (at berlin)", "site       berlin"} < set(listed)
    hub.revoke("berlin")
    assert hub.sites() == []
    assert [each.name for each in hub.principals()] == ["ann", "broker", "scheduler"]


@pytest.mark.parametrize("name", ["", "hub", "a.b", "a b", "x" * 33])
def test_names_that_no_site_can_have(name: str) -> None:
    """They stand in subjects, and `hub` is the hub."""
    with pytest.raises(ConfigurationError, match="no name for a site"):
        check_site(name)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"site": "berlin", "urls": 1, "seed": ""}'])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """In one line that says where it comes from."""
    path = tmp_path / "berlin.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="what `jsnats auth add site NAME` writes at the hub"):
        Leaf.load(path)


def test_a_site_is_no_hub(tmp_path: Path) -> None:
    """Sites of sites are refused, and so is a site of a lab that none can reach. That changes nothing."""
    hub = outside_lab(tmp_path, leafnodes=free_port())
    carried = tmp_path / "berlin.json"
    carried.write_text(hub.add_site("berlin").encode())
    code, told = config(hub.path, "--leaf", str(carried), "--leafnodes", "7422")
    assert (code, "it cannot be one itself" in told) == (2, True)
    assert hub.leaf() is None
    assert hub.add("user", "ann").name == "ann"
    with pytest.raises(ConfigurationError, match="no site can reach this lab"):
        LabDir(tmp_path / "alone").add_site("paris")


def test_a_site_has_its_name_for_itself(tmp_path: Path) -> None:
    """`auth revoke berlin` means one of them: a user and a site cannot both be berlin. Nobody is a visitor by MQTT."""
    hub = outside_lab(tmp_path / "hub", leafnodes=free_port())
    hub.add("user", "ann")
    hub.add_site("berlin")
    with pytest.raises(ConfigurationError, match="'ann' is already user"):
        hub.add_site("ann")
    with pytest.raises(ConfigurationError, match="'berlin' is already site"):
        hub.add("user", "berlin")
    with pytest.raises(ConfigurationError, match="'berlin' is already site"):
        hub.add_mqtt("berlin")
    with pytest.raises(ConfigurationError, match="come by a hub"):
        hub.add_mqtt("bob@hub")
    hub.add("user", "berlin", site="berlin")
    assert hub.revoke("berlin", site="berlin").name == "berlin@hub"
    assert hub.revoke("berlin").role == "site"


async def test_a_site_that_went_while_nobody_looked_is_away_since_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not since it came, which may be weeks ago; how long one is away that was away before is not forgotten."""
    told: list[LinkRecord] = []

    async def put_record(_nc: object, _key: str, body: bytes) -> int:
        told.append(LinkRecord.decode(body))
        raise Disconnected("enough")

    async def nobody(*_: object) -> bool:
        return False

    async def last_record(*_: object) -> Record:
        return Record(LinkRecord(connected=True, since=1000.0).encode(), 1)

    monkeypatch.setattr(_links, "put_record", put_record)
    monkeypatch.setattr(_links, "last_record", last_record)
    monkeypatch.setattr(_links, "_reaches", nobody)
    began = time.time()
    with pytest.raises(Disconnected, match="enough"):
        await _links._watch(cast("Connection", None), "berlin", LabDir(tmp_path))
    assert [each.connected for each in told] == [False]
    assert began <= told[0].since <= time.time()
    assert _links._last_heard(LinkRecord(connected=False, since=1000.0)) == 1000.0


async def test_sites_are_served_on_while_the_directory_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The one that is served stays so, and one that is added later is served when it can be read again."""
    served: asyncio.Queue[str] = asyncio.Queue()
    answers: list[list[str] | None] = [["berlin"], None, ["berlin", "paris"]]

    async def serve_one(_lab: object, site: str) -> None:
        served.put_nowait(site)
        await asyncio.Event().wait()

    def sites(_lab: LabDir) -> list[str]:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is None:
            raise ConfigurationError("cannot read auth.json")
        return answer

    monkeypatch.setattr(_links, "LOOK_S", 0.01)
    monkeypatch.setattr(_links, "_serve_one", serve_one)
    monkeypatch.setattr(LabDir, "sites", sites)
    async with asyncio.timeout(10), _links.serving_sites(LabDir(tmp_path)):
        assert [await served.get(), await served.get()] == ["berlin", "paris"]
    assert "stay as they are: cannot read auth.json" in caplog.text
