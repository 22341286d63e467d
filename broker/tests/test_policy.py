from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from jsnats.broker import Limits, parse_policy, run_broker
from jsnats.broker._policy import PolicyFile
from jsnats.schemas import ConfigurationError


def test_no_file_is_the_defaults(tmp_path: Path) -> None:
    """Whoever writes no policy has one that a lab can live with."""
    policy = PolicyFile(tmp_path / "policy.yaml").now()
    assert policy.of("ann") == Limits(max_duration=28_800, default_duration=3600, max_priority=10, max_waiting=1000)


def test_users_have_their_own() -> None:
    """What a user's own limits do not say is that of everybody; names are as people write them."""
    text = "max_duration: 1h30m\ndefault_duration: 90\nusers: {ci@corp: {max_priority: 50, max_duration: 2d}, bob: }"
    policy = parse_policy(yaml.safe_load(text))
    assert policy.of("ann") == Limits(max_duration=5400, default_duration=90)
    assert policy.of("bob") == policy.everybody
    assert policy.of("ci=40corp") == Limits(max_duration=172_800, default_duration=90, max_priority=50)


def test_every_fault_is_reported_by_its_path() -> None:
    """All that is wrong in the file is told at once."""
    text = """
    max_duraton: 8h
    default_duration: 9h
    max_priority: high
    max_waiting: -1
    users:
      ann: 5
      bob: {max_duration: 8 hours, users: 3}
      '': {}
    """
    with pytest.raises(ConfigurationError) as caught:
        parse_policy(yaml.safe_load(text), "lab/policy.yaml")
    assert caught.value.faults == [
        "lab/policy.yaml: max_duraton: is not known here: use max_duration",
        "lab/policy.yaml: max_priority: must be a whole number, 0 or more",
        "lab/policy.yaml: max_waiting: must be a whole number, 0 or more",
        "lab/policy.yaml: default_duration: is longer than max_duration",
        "lab/policy.yaml: users.ann: must be a map",
        "lab/policy.yaml: users.bob.max_duration: must be a duration, as in 90s, 30m, 8h or 1h30m",
        "lab/policy.yaml: users.bob.users: is not known here: use max_duration, default_duration, max_priority, "
        "max_waiting",
        "lab/policy.yaml: users.: user name '' is empty or too long",
    ]
    assert str(caught.value).startswith("8 faults in lab/policy.yaml:\n")


@pytest.mark.parametrize("text", ["[]", "users: []", "max_duration: .inf", "a: [", "max_duration: 0s"])
async def test_a_broker_does_not_start_with_a_wrong_policy(tmp_path: Path, text: str) -> None:
    """A lab whose policy cannot be read says so instead of running without."""
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"policy\.yaml"):
        async with run_broker(tmp_path, total_bytes=50_000_000):
            pass


def test_it_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """A new text holds at once, a wrong one leaves what held before, and no file is the defaults."""
    file = tmp_path / "policy.yaml"
    file.write_text("max_waiting: 5")
    policy = PolicyFile(file)
    for text, expected in (("max_waiting: 60", 60), ("max_waiting: oh", 60), ("max_waiting: 7", 7)):
        file.write_text(text)
        assert policy.now().of("ann").max_waiting == expected
    os.unlink(file)
    assert policy.now().of("ann") == Limits()
