from __future__ import annotations

import stat
from pathlib import Path

import pytest

from jsnats.broker import BrokerConfig, LabDir, Principal, default_lab_dir, default_total, render
from jsnats.schemas import ConfigurationError
from jsnats.sdk import Context


def config(**changes) -> BrokerConfig:
    """A configuration with some things changed."""
    return BrokerConfig(
        **{"server_name": "lab", "host": "127.0.0.1", "port": 4222, "directory": Path("/lab"), "max_file": 10} | changes
    )


@pytest.fixture
def lab(tmp_path: Path) -> LabDir:
    """A lab that was just made."""
    made = LabDir(tmp_path / "lab")
    made.init()
    return made


def test_default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a directory the lab is in the user's state directory."""
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_lab_dir() == Path("/state/jsnats/lab")


def test_init_twice_keeps_the_keys(lab: LabDir) -> None:
    """A second init changes no file."""
    before = {path: path.read_bytes() for path in lab.path.rglob("*") if path.is_file()}
    lab.init()
    assert {path: path.read_bytes() for path in lab.path.rglob("*") if path.is_file()} == before


def test_secrets_are_private(lab: LabDir) -> None:
    """No file with names or keys can be read by others, and nobody else may enter the directory."""
    lab.add("user", "ann")
    files = [*lab.creds.iterdir(), lab.path / "auth.json", lab.path / "nats.conf"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(lab.path.stat().st_mode) == 0o700


def test_seed_is_only_in_the_context_file(lab: LabDir) -> None:
    """The secret of a principal is in its context file and nowhere else."""
    seed = lab.add("user", "ann").seed
    holders = [path for path in lab.path.rglob("*") if path.is_file() and seed in path.read_text()]
    assert holders == [lab.context_path("ann")]


def test_add_twice_is_the_same(lab: LabDir) -> None:
    """Adding a principal again returns the credential it has."""
    assert lab.add("user", "ann") == lab.add("user", "ann") == lab.context("ann")


def test_add_again_after_the_file_was_lost(lab: LabDir) -> None:
    """A principal whose context file is gone gets a new key, and the old one no longer counts."""
    first = lab.add("user", "ann")
    old = next(each for each in lab.principals() if each.name == "ann").key
    lab.context_path("ann").unlink()
    assert lab.add("user", "ann").seed != first.seed
    assert old not in (lab.path / "nats.conf").read_text()


def test_name_is_unique_across_roles(lab: LabDir) -> None:
    """One name is one principal, whatever its role."""
    lab.add("user", "ann")
    with pytest.raises(ConfigurationError, match="already user"):
        lab.add("exporter", "ann")


@pytest.mark.parametrize(
    ("role", "name"), [("exporter", "a.b"), ("exporter", "lab"), ("user", "lab"), ("user", ""), ("king", "ann")]
)
def test_bad_role_or_name(lab: LabDir, role: str, name: str) -> None:
    """A name that cannot be a token, a reserved one and an unknown role are refused."""
    with pytest.raises(ConfigurationError):
        lab.add(role, name)
    assert [each.name for each in lab.principals()] == ["broker"]


def test_user_name_is_escaped_in_the_file_name(lab: LabDir) -> None:
    """A user's name cannot lead out of the directory of credentials."""
    lab.add("user", "../../etc/x")
    assert lab.context_path("../../etc/x").parent == lab.creds
    assert lab.context("../../etc/x").name == "../../etc/x"


def test_revoke_removes_key_and_file(lab: LabDir) -> None:
    """A revoked principal is in no file any more, and can be added anew with another key."""
    first = lab.add("user", "ann")
    path = lab.context_path("ann")
    gone = lab.revoke("ann")
    assert not path.exists()
    assert gone.key not in (lab.path / "auth.json").read_text() + (lab.path / "nats.conf").read_text()
    assert lab.add("user", "ann").seed != first.seed


@pytest.mark.parametrize("name", ["nobody", "broker"])
def test_revoke_refused(lab: LabDir, name: str) -> None:
    """Unknown names and the broker's own admin cannot be revoked."""
    with pytest.raises(ConfigurationError):
        lab.revoke(name)


def test_no_lab_there(tmp_path: Path) -> None:
    """A directory that is no lab is an error that says how to make one."""
    with pytest.raises(ConfigurationError, match="jsnats auth init"):
        LabDir(tmp_path).principals()


def test_broken_file_is_named(lab: LabDir) -> None:
    """A file that is no JSON is named in the error."""
    (lab.path / "auth.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"auth\.json"):
        lab.principals()


def test_configure_moves_the_credentials_along(lab: LabDir) -> None:
    """When the broker listens elsewhere, the context files here say so."""
    from dataclasses import replace

    lab.add("user", "ann")
    lab.configure(replace(lab.settings(), port=5222, url="nats://127.0.0.1:5222"))
    assert lab.context("ann").url == "nats://127.0.0.1:5222"
    assert Context.load(lab.creds / "system.json").url == "nats://127.0.0.1:5222"


def test_config_of_an_admin_has_no_limits_and_others_have() -> None:
    """Everybody but the admin is written with permissions."""
    text = render(
        config(system_key="US", principals=(Principal("a", "a", "admin", "UA"), Principal("u", "u", "user", "UU")))
    )
    assert text.count('"permissions"') == 1
    assert "jsnats.call.*.u.>" in text


def test_config_without_auth_has_no_accounts() -> None:
    """The variant without auth is open, and loopback only."""
    assert "accounts" not in render(config(auth=False))
    with pytest.raises(ConfigurationError, match="without credentials"):
        render(config(auth=False, host="10.0.0.1"))


def test_default_total_is_bounded(tmp_path: Path) -> None:
    """A lab takes a fifth of the free disk and 10 GB at most."""
    assert 0 < default_total(tmp_path) <= 10_000_000_000


def test_place_that_cannot_be(tmp_path: Path) -> None:
    """A path through a file is refused in one line."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="choose another --dir"):
        LabDir(tmp_path / "file" / "lab").init()


def test_settings_of_a_newer_version_are_read(lab: LabDir) -> None:
    """Settings that this version does not know are ignored."""
    import json

    path = lab.path / "broker.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"later": 1}))
    assert lab.settings().port == 4222
