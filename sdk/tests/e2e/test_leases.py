"""Leases as their users meet them: SDK and commands, with a real broker, a scheduler and agents in processes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any, NoReturn
from unittest.mock import patch

import pytest

from jsnats.agent.testing import AgentProcess
from jsnats.broker.testing import TestBroker, running_broker
from jsnats.common.exceptions import BrokerUnfit, LeaseLost, LeaseNotFound, LeaseRequired, NoMatch
from jsnats.sdk import Lab, LeaseDesk, WaitInfo, _lease_desk, connect
from jsnats.sdk._broker_errors import NoResponders
from jsnats.testing import until

BOARDS = ("b1", "b2")
JSNATS = (sys.executable, "-m", "jsnats.sdk.cli")
EITHER = "name in (b1, b2)"


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    """A broker with a scheduler, two exporters, and three users."""
    users = ["alice", "bob", "carol", "dan@corp.example"]
    with running_broker(principals={"user": users, "exporter": BOARDS}) as broker, ExitStack() as stack:
        for name in BOARDS:
            stack.enter_context(AgentProcess(name, broker.context_path(name)))
        yield broker


@pytest.fixture
def lab_of(broker: TestBroker) -> Iterator[Callable[[str], Lab]]:
    """A connection of that user, closed after the test."""
    with ExitStack() as stack:
        yield lambda user: stack.enter_context(connect(context=broker.context(user)))


@pytest.fixture
def lab(lab_of: Callable[[str], Lab]) -> Iterator[Lab]:
    """A connection of alice; after the test every exporter is free again."""
    lab = lab_of("alice")
    yield lab
    everybody = lab_of("broker")
    for lease in everybody.leases():
        with suppress(LeaseNotFound):
            ask(everybody, "release", id=lease.id)
    until(lambda: all(each.free for each in lab.exporters()))


def as_user(broker: TestBroker, name: str) -> dict[str, str]:
    """The environment of a process of that user."""
    return os.environ | {"JSNATS_CONTEXT": str(broker.context_path(name)), "SHELL": "/bin/sh"}


def ask(lab: Lab, verb: str, **fields: Any) -> dict[str, Any]:
    """A request to the scheduler."""
    assert lab.inner.bridge
    return lab.inner.bridge.run(LeaseDesk(lab.inner.connection).any(verb, **fields))


def state(lab: Lab, name: str) -> str:
    """What an exporter is doing."""
    return next(each.state for each in lab.exporters() if each.name == name)


class Holder(threading.Thread):
    """Somebody who takes a lease, notes it in `order`, and keeps it until told."""

    def __init__(self, lab: Lab, order: list[str], name: str, **options: Any) -> None:
        super().__init__(name=name)
        self.waiting, self.enough = threading.Event(), threading.Event()
        self.told: list[WaitInfo] = []
        self.order = order
        self.lease = lab.lease(exporter="b1", on_wait=self._on_wait, **options)
        self.start()

    def _on_wait(self, place: WaitInfo) -> None:
        self.told.append(place)
        self.waiting.set()

    def run(self) -> None:
        with self.lease as bench:
            bench.call("ping")
            self.order.append(self.name)
            self.enough.wait(20)

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.enough.set()
        self.join(20)


# ------------------------------------------------------------------ taking and giving back


def test_a_lease_lasts_as_long_as_its_block(lab: Lab, lab_of: Callable[[str], Lab]) -> None:
    """Within it, the exporter is the holder's and says so; after it, it is torn down and free."""
    lease = lab.lease("name=b1", duration="30m", note="soak")
    with lease as bench:
        assert bench.call("ping", 1) == 1
        assert lease.boards == ("b1",)
        assert 1790 < (lease.remaining or 0) <= 1800
        (info,) = lab.leases()
        assert (info.id, info.state, info.holder, info.boards, info.note) == (
            lease.id,
            "active",
            "alice",
            ["b1"],
            "soak",
        )
        with pytest.raises(LeaseRequired, match="held by alice"):
            lab_of("bob").exporter("b1").call("ping")
    until(lambda: state(lab, "b1") == "available")
    assert lab.leases() == []
    with pytest.raises(LeaseLost, match="given back"):
        bench.call("ping")
    assert lab.exporter("b1").call("ping", 2) == 2


def test_priority_then_arrival(lab: Lab, lab_of: Callable[[str], Lab]) -> None:
    """Who waits is told his position and when he is served at the latest."""
    order: list[str] = []
    first = lab.lease(exporter="b1", duration="10m")
    first.take()
    with ExitStack() as stack:
        holders = []
        for name, options in (("bob", {}), ("carol", {}), ("urgent", {"priority": 5})):
            user = "alice" if name == "urgent" else name
            holders.append(stack.enter_context(Holder(lab_of(user), order, name, **options)))
            assert holders[-1].waiting.wait(20)
        bob, carol, urgent = holders
        assert [each.told[0].position for each in (bob, carol, urgent)] == [1, 2, 1]
        assert 500 < (bob.told[0].waits or 0) <= 600
        until(lambda: [each.position for each in lab.queue()] == [1, 2, 3])
        assert [each.user for each in lab.queue()] == ["alice", "bob", "carol"]
        until(lambda: bob.told[-1].position == 2)
        for each in holders:
            each.enough.set()
        first.give_back()
    assert order == ["urgent", "bob", "carol"]


def test_two_boards_are_granted_together(lab: Lab) -> None:
    """One for each selector, in their order; neither alone."""
    with lab.lease("name=b2", EITHER) as (second, first):
        assert (second.exporter, first.exporter) == ("b2", "b1")
        assert (second.call("ping", 2), first.call("ping", 1)) == (2, 1)
        (info,) = lab.leases()
        assert info.boards == ["b2", "b1"]


def test_what_nothing_fits_is_said_at_once(lab: Lab) -> None:
    """With what there is."""
    with pytest.raises(NoMatch, match="board=rpi5"):
        lab.lease("board=rpi5").take()


def test_a_booking_in_the_way(lab: Lab, lab_of: Callable[[str], Lab]) -> None:
    """It is said whose, and from when on, to who cannot have the exporter now."""
    begin = time.time() + 600
    ask(lab_of("bob"), "create", id="b" * 16, selectors=["name=b1"], begin=begin, duration=600.0)
    with pytest.raises(LeaseLost, match="cannot be had at once: b1 is booked by bob from"):
        lab.lease(exporter="b1", duration="30m", wait=0).take()
    ask(lab_of("bob"), "release", id="b" * 16)


def test_who_waits_for_a_scheduler_is_told(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """In a line, after a second; what is asked in the background says nothing."""
    assert lab.inner.bridge
    desk = LeaseDesk(lab.inner.connection)

    async def held_up(*_: Any, **__: Any) -> NoReturn:
        raise NoResponders("nobody")

    with patch.object(lab.inner.connection, "read", held_up), patch.object(_lease_desk, "TELL_S", 0.01):
        for verb in ("renew", "create"):
            with pytest.raises(BrokerUnfit, match="no scheduler answers"):
                lab.inner.bridge.run(desk.own(verb, id="x", patience_s=0.1))
    assert [each.getMessage() for each in caplog.records if each.name == "jsnats.lease"] == [
        f"waiting for an answer of a scheduler at {lab.inner.connection.context.url}"
    ]


def test_a_wait_that_is_over(lab: Lab, lab_of: Callable[[str], Lab]) -> None:
    """It is said what was in the way, and nobody waits any more."""
    with lab_of("bob").lease(exporter="b1"), pytest.raises(LeaseLost, match="in vain: b1 is held by bob"):
        lab.lease(exporter="b1", wait=0.2).take()
    assert lab.queue() == []


HOLD = """
import sys, time
from jsnats.sdk import connect
with connect() as lab:
    with lab.lease(exporter="b1", tether=sys.argv[1], on_wait=lambda place: print("waiting", flush=True)):
        print("held", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def holder(broker: TestBroker, lab: Lab) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process of bob that takes b1, and wait for its first word."""
    started = []

    def start(word: str, tether: str = "30s") -> subprocess.Popen[str]:
        environment = os.environ | {"JSNATS_CONTEXT": str(broker.context_path("bob"))}
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, tether],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        started.append(process)
        assert process.stdout
        assert process.stdout.readline().strip() == word
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def test_ctrl_c_gives_the_board_back(lab: Lab, holder: Callable[..., subprocess.Popen[str]]) -> None:
    """At once, not after the grace."""
    process = holder("held")
    process.send_signal(signal.SIGINT)
    process.wait(20)
    assert lab.leases() == []


def test_ctrl_c_gives_the_place_up(lab: Lab, holder: Callable[..., subprocess.Popen[str]]) -> None:
    """Nobody waits behind somebody who has gone."""
    with lab.lease(exporter="b1"):
        process = holder("waiting")
        assert [each.user for each in lab.queue()] == ["bob"]
        process.send_signal(signal.SIGINT)
        process.wait(20)
        assert lab.queue() == []


def test_a_killed_holder_loses_it_after_the_grace(lab: Lab, holder: Callable[..., subprocess.Popen[str]]) -> None:
    """Here 2 s, and not before."""
    holder("held", "2s").kill()
    begin = time.monotonic()
    with lab.lease(exporter="b1") as bench:
        assert 0.5 < time.monotonic() - begin < 8
        assert bench.call("ping", 1) == 1


def test_an_outage_of_the_broker_ends_no_lease(broker: TestBroker, lab: Lab) -> None:
    """Although it lasts longer than the tether."""
    with lab.lease(exporter="b1", tether="2s") as bench:
        broker.stop()
        time.sleep(3)
        broker.start()
        assert bench.call("ping", 1) == 1
        until(lambda: lab.leases())
        assert bench.call("ping", 2) == 2


# ------------------------------------------------------------------ losing it


def test_a_lost_lease_fails_what_runs_at_once(lab: Lab, lab_of: Callable[[str], Lab]) -> None:
    """A call, a stream and a byte stream, with the reason, within a second; and whatever is begun later."""
    admin = lab_of("broker")
    lease = lab.lease(exporter="b1")
    failed: list[tuple[float, LeaseLost]] = []
    begun = threading.Barrier(4)

    def fails(work: Callable[[Any], object]) -> None:
        try:
            work(bench)
        except LeaseLost as error:
            failed.append((time.monotonic(), error))

    def call(bench: Any) -> None:
        begun.wait(20)
        bench.call("sleep", 30)

    def stream(bench: Any) -> None:
        for item in bench.streamingcall("count", 10**6, pause=0.05):
            if item == 0:
                begun.wait(20)

    def pipe(bench: Any) -> None:
        with bench.stream() as stream:
            stream.send(b"x")
            stream.receive()
            begun.wait(20)
            stream.receive()

    with lease as bench:
        threads = [threading.Thread(target=fails, args=[work]) for work in (call, stream, pipe)]
        for thread in threads:
            thread.start()
        begun.wait(20)
        at = time.monotonic()
        ask(admin, "release", id=lease.id, reason="a demo")
        for thread in threads:
            thread.join(20)
        assert len(failed) == 3
        assert all("b1 has ended: a demo (by broker)" in str(error) for _, error in failed)
        assert max(when for when, _ in failed) - at < 1
        with pytest.raises(LeaseLost, match="a demo"):
            bench.call("ping")
        with pytest.raises(LeaseLost, match="a demo"), bench.stream():
            pass
        assert lease.lost is not None


def test_its_end_is_kept(lab: Lab) -> None:
    """What runs then is told that the time was up."""
    with lab.lease(exporter="b1", duration=1.5) as bench, pytest.raises(LeaseLost, match="b1 has ended"):
        bench.call("sleep", 30)


def test_an_old_epoch_is_refused(lab: Lab, lab_of: Callable[[str], Lab]) -> None:
    """A client that was made under a lease does not work under the next one of the same user."""
    with lab_of("alice").lease(exporter="b1"):
        old = lab.exporter("b1")
        assert old.call("ping", 1) == 1
    with lab_of("alice").lease(exporter="b1"):
        with pytest.raises(LeaseRequired, match="has ended"):
            old.call("ping", 1)
        assert lab.exporter("b1").call("ping", 2) == 2


def test_extend_share_transfer_release(lab: Lab, lab_of: Callable[[str], Lab]) -> None:
    """The end moves, others are let in, it becomes another's, and is over."""
    bob = lab_of("bob")
    lease = lab.lease(exporter="b1", duration="10m")
    with lease as bench:
        lease.extend("5m")
        until(lambda: 890 < (lease.remaining or 0) <= 900)
        lease.extend("-12m")
        until(lambda: 170 < (lease.remaining or 0) <= 180)
        lease.share("bob")
        until(lambda: bob.exporter("b1").call("ping", 1) == 1, despite=LeaseRequired)
        assert bench.call("ping", 1) == 1
        lease.transfer("bob")
        with pytest.raises(LeaseLost, match="transferred to bob"):
            bench.call("sleep", 30)
        until(lambda: bob.exporter("b1").call("ping", 2) == 2, despite=LeaseRequired)
    ask(bob, "release", id=lease.id)
    until(lambda: state(lab, "b1") == "available")


# ------------------------------------------------------------------ commands


@pytest.fixture
def jsnats(broker: TestBroker, lab: Lab) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `jsnats` as alice."""

    def run(*words: str, user: str = "alice") -> subprocess.CompletedProcess[str]:
        environment = as_user(broker, user)
        return subprocess.run(
            [*JSNATS, *words], capture_output=True, text=True, env=environment, timeout=60, check=False
        )

    return run


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143), ('test "$JSNATS_EXPORTER" = b1', 0)]
)
def test_run_exits_as_its_command(jsnats: Command, lab: Lab, script: str, code: int) -> None:
    """And gives the board back."""
    done = jsnats("run", "-l", "name=b1", "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (code, "")
    assert lab.leases() == []


def test_run_ends_its_command_with_the_lease(broker: TestBroker, lab: Lab, lab_of: Callable[[str], Lab]) -> None:
    """SIGTERM, and exit code 5 with the reason in one line."""
    script = "import signal; print('in', flush=True); signal.pause()"
    command = [*JSNATS, "run", "-l", "name=b1", "--", sys.executable, "-c", script]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=as_user(broker, "alice"),
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "in\n"
        ask(lab_of("broker"), "release", id=lab.leases()[0].id, reason="maintenance")
        _, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (5, "error: the lease of b1 has ended: maintenance (by broker)\n")


def test_run_says_in_one_line_what_is_wrong(jsnats: Command) -> None:
    """No match is 2, not free is 5."""
    wrong = jsnats("run", "-l", "board=rpi5", "--", "true")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "board=rpi5" in wrong.stderr


def test_commands_of_leases(jsnats: Command, lab: Lab) -> None:
    """The life of a lease: made, shown, extended, shared, handed on, ended; ids may be abbreviated."""
    made = jsnats("lease", "create", "-l", "name=b1", "--duration", "20m", "--note", "soak")
    assert made.returncode == 0, made.stderr
    id_, board = made.stdout.split()
    assert board == "b1"
    listed = jsnats("lease", "ls").stdout.splitlines()
    assert listed[1].split()[:4] == [id_[:8], "active", "alice", "b1"]
    assert jsnats("lease", "extend", id_[:6], "-5m").stdout.startswith("until ")
    assert jsnats("lease", "share", id_[:6], "bob").returncode == 0
    shown = jsnats("lease", "show", id_[:6]).stdout
    assert "co_holders:  bob" in shown
    assert "note:        soak" in shown
    assert jsnats("ls", "--free").stdout.count("\n") == 2
    denied = jsnats("lease", "release", id_[:6], user="carol")
    assert (denied.returncode, denied.stderr.count("\n")) == (2, 1)
    assert jsnats("lease", "transfer", id_[:6], "bob").returncode == 0
    assert jsnats("lease", "release", id_[:6], "--reason", "enough", user="broker").returncode == 0
    assert jsnats("lease", "show", id_[:6]).returncode == 2
    assert jsnats("queue").stderr == "nobody waits\n"


def test_users_are_shown_by_their_names(jsnats: Command, lab: Lab) -> None:
    """Not as they stand in subjects: by requests, lists, events and the history, in words and as JSON."""
    dan = "dan@corp.example"
    id_ = jsnats("lease", "create", "-l", "name=b1", user=dan).stdout.split()[0]
    shared = json.loads(jsnats("lease", "share", id_, "erna@home", "--json", user=dan).stdout)
    assert shared["co_holders"] == ["erna@home"]
    assert json.loads(jsnats("lease", "transfer", id_, "zoë", "--json", user=dan).stdout)["holder"] == "zoë"
    assert jsnats("lease", "release", id_, user="broker").returncode == 0
    until(lambda: jsnats("history", "b1").stdout.count("the lease of zoë ended"))
    for words in (("events", "b1"), ("events", "b1", "--json"), ("history", "b1"), ("history", "b1", "--json")):
        told = jsnats(*words).stdout
        assert dan in told
        assert "=40" not in told
    assert "dan@corp.example shares it with erna@home" in jsnats("events", "b1").stdout


def test_a_create_that_is_killed_while_it_waits(broker: TestBroker, lab: Lab, lab_of: Callable[[str], Lab]) -> None:
    """SIGTERM, as of a CI job that is cancelled: nobody waits any more, who would be given the board for nothing."""
    with lab_of("bob").lease(exporter="b1"):
        command = (*JSNATS, "lease", "create", "-l", "name=b1")
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=as_user(broker, "alice")) as process:
            until(lambda: lab.queue())
            process.terminate()
            assert process.wait(20) == 128 + signal.SIGTERM
        assert lab.queue() == []


def test_an_exporter_that_an_admin_takes_out(jsnats: Command, lab: Lab) -> None:
    """It is shown with the reason, and not granted."""
    refused = jsnats("exporter", "disable", "b1", "fan is broken")
    assert (refused.returncode, refused.stderr.partition(":")[0]) == (4, "error")
    assert "only an admin may disable an exporter: --context FILE" in refused.stderr
    assert jsnats("exporter", "disable", "b1", "fan is broken", user="broker").returncode == 0
    try:
        (row,) = [line for line in jsnats("ls").stdout.splitlines() if line.startswith("b1 ")]
        assert "disabled" in row
        assert row.endswith("fan is broken")
        refused = jsnats("lease", "create", "-l", "name=b1", "--no-wait")
        assert refused.returncode == 5
        assert refused.stderr.endswith(": b1 is disabled (fan is broken)\n")
    finally:
        assert jsnats("exporter", "enable", "b1", user="broker").returncode == 0


def test_a_shell_gives_back(broker: TestBroker, lab: Lab) -> None:
    """In it, everything works under its lease, and it says when that has ended; the exit code is that of the shell."""
    master, slave = pty.openpty()
    command = [*JSNATS, "shell", "-l", "name=b1", "--duration", "20m"]
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=as_user(broker, "alice"), start_new_session=True
    )
    os.close(slave)
    said = b""

    def wait_for(text: bytes) -> None:
        nonlocal said
        while text not in said:
            said += os.read(master, 4096)
        said = said[said.index(text) + len(text) :]

    try:
        wait_for(b"20m from now")
        wait_for(b"(b1) $ ")
        (info,) = lab.leases()
        assert info.tether == 600
        os.write(master, b"echo $JSNATS_LEASE-$JSNATS_EXPORTER; jsnats call b1.ping 7\n")
        wait_for(f"{info.id}-b1".encode())
        wait_for(b"7\r\n")
        ask(lab, "release", id=info.id)
        wait_for(b"the lease of b1 has ended: released by alice")
        os.write(master, b"jsnats call b1.ping 8; exit 7\n")
        wait_for(b"error: the lease of this shell has ended: released by alice")
        assert process.wait(20) == 7
    finally:
        process.kill()
        os.close(master)
