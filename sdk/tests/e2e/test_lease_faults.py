"""Leases when something is away or wrong: the broker, all schedulers, a clock, a holder in the middle of a flash."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from jsnats.agent.testing import AgentProcess
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.common.exceptions import LeaseLost, LeaseRequired
from jsnats.sdk import Lab, LeaseDesk, connect
from jsnats.testing import until

JSNATS = (sys.executable, "-m", "jsnats.sdk.cli")
HOUR_LATE = "import sys, time; real = time.time; time.time = lambda: real() - 3600.0\n"
"""Before anything else in a process whose host has a wrong clock."""
SCHEDULER = "from jsnats.sdk.cli import main; sys.argv = ['jsnats', 'scheduler', 'run']; main()"
HOLDER = """
import time
from jsnats.sdk import connect
with connect() as lab, lab.lease(exporter="p1", tether="2s"):
    print("held", flush=True)
    time.sleep(60)
"""
POWERED = 6.0
"""V; the mock supply has 12 when it is on, and nothing when it is off."""


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    """A broker with no scheduler of its own; `p1` and `p2` are power supplies, `b1` and `strict` boards, `f1` a
    flasher."""
    principals = {"user": ["alice", "bob"], "scheduler": ["one", "two"]}
    with running_broker(scheduler=False, principals=principals) as broker, ExitStack() as stack:
        drivers = {
            "p1": "jsnats_driver_power.driver:MockPower",
            "p2": "jsnats_driver_power.driver:MockPower",
            "b1": "jsnats.agent.testing:Board",
            "f1": "jsnats_driver_opendal:MockFlasher",
        }
        for name, driver in drivers.items():
            broker.add("exporter", name)
            stack.enter_context(AgentProcess(name, broker.context_path(name), driver))
        broker.add("exporter", "strict")
        stack.enter_context(AgentProcess("strict", broker.context_path("strict"), drivers["b1"], lease="required"))
        yield broker


@contextmanager
def scheduler(broker: TestBroker, name: str = "one", prelude: str = "import sys\n") -> Iterator[subprocess.Popen[str]]:
    """`jsnats scheduler run` in a process of its own, killed at the end."""
    command = [sys.executable, "-c", prelude + SCHEDULER]
    with subprocess.Popen(command, env=as_user(broker, name), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline().startswith(f"scheduler  {name} at")
            yield process
        finally:
            process.kill()


@pytest.fixture
def lab_of(broker: TestBroker) -> Iterator[Callable[[str], Lab]]:
    """A connection of that user, closed after the test."""
    with ExitStack() as stack:
        yield lambda user: stack.enter_context(connect(context=broker.context(user)))


def as_user(broker: TestBroker, name: str) -> dict[str, str]:
    """The environment of a process of that user."""
    return os.environ | {"JSNATS_CONTEXT": str(broker.context_path(name))}


def state(lab: Lab, name: str) -> str:
    """What an exporter is doing."""
    return next(each.state for each in lab.exporters() if each.name == name)


def volts(power: Any) -> float:
    """What a supply gives."""
    return float(next(iter(power.read())).voltage)


def command(broker: TestBroker, *words: str, user: str = "alice") -> subprocess.CompletedProcess[str]:
    """Run `jsnats`."""
    return subprocess.run(
        [*JSNATS, *words], capture_output=True, text=True, env=as_user(broker, user), timeout=60, check=False
    )


def test_a_long_outage_of_the_broker(broker: TestBroker, lab_of: Callable[[str], Lab]) -> None:
    """Many times as long as the tether: neither lease is lost, and no board is switched off; the tethered one is lost
    when its holder is gone, and only then."""
    lab = lab_of("alice")
    tethered, free = lab.lease(exporter="p1", tether="1s"), lab.lease(exporter="p2", tether=0)
    with scheduler(broker), tethered as one, free as other:
        one.on()
        other.on()
        until(lambda: min(volts(one), volts(other)) > POWERED)
        broker.stop()
        time.sleep(6)  # the outage itself
        broker.start()
        assert min(volts(one), volts(other)) > POWERED
        time.sleep(2)  # two tethers more, with everybody there again
        assert (tethered.lost, free.lost) == (None, None)
        assert min(volts(one), volts(other)) > POWERED
        assert {each.id for each in lab.leases()} == {tethered.id, free.id}


def test_power_outside_a_lease_stays_on(broker: TestBroker) -> None:
    """Switched on by one command that has long ended when another reads it."""
    assert command(broker, "call", "b1.is_on").stdout.strip().lower() == "false"
    assert command(broker, "call", "b1.on").returncode == 0
    assert command(broker, "call", "b1.is_on", user="bob").stdout.strip().lower() == "true"


def test_without_a_scheduler(broker: TestBroker, lab_of: Callable[[str], Lab]) -> None:
    """For longer than the tether: who holds a lease goes on, who asks for one waits, and has it when one is there."""
    alice, bob = lab_of("alice"), lab_of("bob")
    served = threading.Event()

    def wait() -> None:
        with bob.lease(exporter="p1"):
            served.set()

    with scheduler(broker) as first:
        held = alice.lease(exporter="b1", tether="1s")
        with held as bench:
            first.kill()
            first.wait()
            waiting = threading.Thread(target=wait)
            waiting.start()
            assert not served.wait(4)
            assert bench.call("ping", 1) == 1
            with scheduler(broker, "two"):
                assert served.wait(20)
                waiting.join(20)
                assert (bench.call("ping", 2), held.lost) == (2, None)
                held.give_back()
                until(lambda: not alice.leases())


def test_a_holder_who_vanishes_while_there_is_no_scheduler(broker: TestBroker, lab_of: Callable[[str], Lab]) -> None:
    """The next scheduler has never heard of him; the lease ends when its tether is over."""
    bob = lab_of("bob")
    with scheduler(broker) as first:
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER], env=as_user(broker, "alice"), stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout
            assert holder.stdout.readline() == "held\n"
            first.kill()
            holder.kill()
        with scheduler(broker, "two"):
            assert [each.holder for each in bob.leases()] == ["alice"]
            until(lambda: not bob.leases())


def test_a_lease_given_back_while_a_scheduler_is_restarted(
    broker: TestBroker, lab_of: Callable[[str], Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end waits for the next one, so nobody has to wait for the tether."""
    monkeypatch.setattr("jsnats.sdk._lease.RELEASE_S", 60.0)
    alice = lab_of("alice")
    with scheduler(broker) as first:
        held = alice.lease(exporter="p1", tether=0)
        held.take()
        first.kill()
        first.wait()
        giving = threading.Thread(target=held.give_back)
        giving.start()
        with scheduler(broker, "two"):
            giving.join(60)
            until(lambda: not alice.leases())


def test_a_lease_that_ends_while_a_flash_runs(broker: TestBroker, lab_of: Callable[[str], Lab], tmp_path: Path) -> None:
    """The flash fails at once, the board is torn down and free, and the next one flashes it."""
    alice, bob = lab_of("alice"), lab_of("bob")
    fifo, image = tmp_path / "image", b"\0" * (1 << 20)
    os.mkfifo(fifo)
    lost: list[LeaseLost] = []

    def flash(client: Any) -> None:
        with pytest.raises(LeaseLost) as caught, fifo.open("rb") as slow:
            client.flash(slow)
        lost.append(caught.value)

    with scheduler(broker):
        lease = alice.lease(exporter="f1")
        flashing = threading.Thread(target=flash, args=[lease.__enter__()])
        flashing.start()
        with fifo.open("wb") as device:  # it stays open: the flash waits for the rest of the image
            device.write(image)
            device.flush()
            assert bob.inner.bridge
            admin = lab_of("broker")
            assert admin.inner.bridge
            until(lambda: lease.boards)
            admin.inner.bridge.run(LeaseDesk(admin.inner.connection).any("release", id=lease.id, reason="it is late"))
            until(lambda: state(bob, "f1") == "available")
        flashing.join(20)
        assert "it is late" in str(lost[0])
        with bob.lease(exporter="f1") as flasher:
            flasher.flash(image)
            flasher.dump(tmp_path / "dump")
        assert (tmp_path / "dump").read_bytes() == image
        lease.give_back()


CLIENT = """
import time
from jsnats.common.exceptions import LeaseLost
from jsnats.sdk import connect
with connect() as lab:
    lease = lab.lease(exporter="b1", duration="4s", tether=0)
    with lease as bench:
        begin = time.monotonic()
        print(round(lease.remaining))
        try:
            bench.call("sleep", 30)
        except LeaseLost as error:
            print(error)
        print(round(time.monotonic() - begin))
"""


@pytest.mark.parametrize("wrong", ["client", "scheduler"])
def test_a_clock_that_is_an_hour_late(broker: TestBroker, wrong: str) -> None:
    """Whose ever it is: a lease of 4 s is shown as one, and lasts so long. (An agent's clock: see its tests.)"""
    prelude = {"scheduler": "import sys\n", "client": ""} | {wrong: HOUR_LATE}
    with scheduler(broker, prelude=prelude["scheduler"]):
        command = [sys.executable, "-c", prelude["client"] + CLIENT]
        environment = as_user(broker, "alice")
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        left, why, lasted = done.stdout.splitlines()
        assert (left, lasted) == ("4", "4")
        assert why == "sleep: the lease of b1 has ended: its time is up"


def test_refused_in_one_line(broker: TestBroker, lab_of: Callable[[str], Lab]) -> None:
    """Without a lease where one is required, by another user, and a selector that nothing can ever match: with what is
    to be done, who has it, and what exists."""
    free = command(broker, "call", "strict.ping")
    assert (free.returncode != 0, free.stderr.count("\n")) == (True, 1)
    assert "nobody holds it" in free.stderr
    with scheduler(broker):
        with lab_of("alice").lease(exporter="strict"):
            held = command(broker, "call", "strict.ping", user="bob")
            assert held.stderr.count("\n") == 1
            assert "strict is held by alice until" in held.stderr
            with pytest.raises(LeaseRequired, match="held by alice"):
                lab_of("bob").exporter("strict").call("ping")
        nothing = command(broker, "lease", "create", "-l", "board=rpi5")
        assert (nothing.returncode, nothing.stderr.count("\n")) == (2, 1)
        assert "board=rpi5" in nothing.stderr
