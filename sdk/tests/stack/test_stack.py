"""The lab of compose.yaml by a real Docker engine: `make test-stack` finds or starts one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from jsnats.sdk import Lab
from jsnats.testing import until

if "JSNATS_STACK" not in os.environ:
    pytest.skip("`make test-stack` runs it", allow_module_level=True)

pytestmark = [
    pytest.mark.timeout(240),
    # A published port of a broker that is down accepts and hangs up; nats-py leaves its end to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).resolve().parents[3]
SERVICES = ["agent-1", "agent-2", "broker", "phone", "recorder", "scheduler"]
UPGRADE = os.environ.get("JSNATS_TEST_UPGRADE", "nats:2.15-alpine")


def states(lab: Lab) -> dict[str, str]:
    """What each exporter is doing."""
    return {each.name: each.state for each in lab.exporters()}


def version(stack: Any) -> str:
    """The version of the broker, as its monitoring port tells this host."""
    port = stack.settings["JSNATS_MONITOR_PORT"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/varz", timeout=10) as answer:
        return str(json.load(answer)["version"])


def test_every_service_is_nobodys_root_on_a_read_only_file_system(stack: Any, figure: Callable[[str], None]) -> None:
    """As Docker runs them: uid 1000, nothing to write to but volumes and /tmp, limits of memory and processes."""
    assert stack.services() == SERVICES
    for service in SERVICES:
        assert stack.exec(service, "id", "-u").strip() == "1000"
        refused = stack.compose("exec", "--no-TTY", service, "sh", "-c", "touch /x 2>&1 || true")
        assert "Read-only file system" in refused
        host = stack.inspect(service)["HostConfig"]
        assert (host["Memory"] > 0, host["PidsLimit"], host["CapDrop"]) == (True, 200, ["ALL"])
        assert host["Memory"] < 2 << 30
    _note_memory(stack, figure)


def _note_memory(stack: Any, figure: Callable[[str], None]) -> None:
    for line in stack.compose("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}").splitlines():
        name, used, _, most = line.split()
        figure(f"{name.split('-', 2)[2]:<14} {used} of {most}")


def test_the_main_job_from_the_host(stack: Any, lab: Lab) -> None:
    """Lease, flash, power, console, readings, release; and U-Boot in QEMU."""
    with lab.lease("name=bench-1", wait="30s") as bench:
        bench.dut.storage.flash(b"firmware of the stack")
        bench.dut.power.on()
        bench.dut.serial.expect("login: ", since="boot", timeout=60)
        assert next(iter(bench.dut.power.read())).voltage > 4
    until(lambda: states(lab)["bench-1"] == "available", 60)
    with lab.lease("board=virtual", wait="30s") as bench:
        bench.dut.power.on()
        assert bench.dut.console.expect(r"U-Boot (\d+\.\d+)", since="boot", timeout=60)
    until(lambda: states(lab)["virtual-1"] == "available", 60)


def test_both_subscribers_have_appended_the_same(stack: Any, lab: Lab) -> None:
    """The files of the NATS subscriber and of the MQTT client tell the same events of a lease, in the same order."""
    with lab.lease("name=bench-1", wait="30s") as bench:
        bench.dut.power.cycle(0.1)
        lease = lab.leases()[0].id
    until(lambda: {"jsnats.lease.ended"} <= {each["type"] for each in told(stack, "phone", lease)}, 60)
    until(lambda: len(told(stack, "recorder", lease)) == len(told(stack, "phone", lease)), 60)
    assert ids(told(stack, "recorder", lease)) == ids(told(stack, "phone", lease))


def recorded(stack: Any, service: str) -> list[dict[str, Any]]:
    """The events in a subscriber's file."""
    return [json.loads(line) for line in stack.exec(service, "cat", "/state/events.jsonl").splitlines()]


def told(stack: Any, service: str, lease: str) -> list[dict[str, Any]]:
    """What a subscriber has of one lease."""
    return [each for each in recorded(stack, service) if lease in json.dumps(each)]


def ids(events: list[dict[str, Any]]) -> list[str]:
    """Their ids."""
    return [each["id"] for each in events]


@pytest.mark.parametrize("service", ["scheduler", "recorder", "phone", "broker", "agent-2"])
def test_a_service_that_is_killed_under_load_comes_back(
    stack: Any, soak: Any, service: str, figure: Callable[[str], None]
) -> None:
    """Docker starts it again; on boards of an agent that was not killed no call fails or is run twice, no
    item of a stream is lost, and no byte of a console."""
    with soak("bench-1") as one, soak("bench-2") as two:
        one.goes_on()
        begin = time.monotonic()
        stack.crash(service)
        figure(f"killed         {service} was healthy again after {time.monotonic() - begin:.1f} s")
        for each in (one, two):
            each.goes_on()
            each.check()


def test_the_recorder_has_every_event_once(stack: Any, lab: Lab) -> None:
    """After all those kills, its own too."""
    expected = [event.id for event in lab.events()]
    first = ids(recorded(stack, "recorder"))[0]
    begin = expected.index(first)
    until(lambda: set(expected[begin:]) <= set(ids(recorded(stack, "recorder"))), 60)
    found = ids(recorded(stack, "recorder"))
    assert found[: len(expected) - begin] == expected[begin:]
    assert len(found) == len(set(found))


def test_the_broker_is_upgraded_under_three_soaking_leases(
    stack: Any, soak: Any, figure: Callable[[str], None]
) -> None:
    """None is lost, no board is power-cycled, no call fails, and no console has a hole: two simulated boards and
    QEMU."""
    old = version(stack)
    with ExitStack() as boards:
        soaks = [boards.enter_context(soak(name)) for name in ("bench-1", "bench-2", "virtual-1")]
        for each in soaks:
            each.goes_on()
        took = stack.up("--no-deps", "broker", JSNATS_BROKER_IMAGE=UPGRADE)
        for each in soaks:
            each.goes_on()
            each.check()
    stack.settings["JSNATS_BROKER_IMAGE"] = UPGRADE
    assert version(stack) != old
    figure(f"upgraded       the broker from {old} to {version(stack)} in {took:.1f} s")


def test_an_agent_is_upgraded_while_boards_of_another_are_leased(stack: Any, soak: Any, lab: Lab) -> None:
    """They notice nothing; its own boards can be had afterwards, from another container."""
    fresh = "jsnats-agent-qemu:next"
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", fresh, "-"],
        input=f"FROM {stack.inspect('agent-2')['Config']['Image']}\nLABEL upgraded=yes\n",
        text=True,
        check=True,
        capture_output=True,
    )
    old = stack.inspect("agent-2")["Id"]
    with soak("bench-1") as one, soak("bench-2") as two:
        one.goes_on()
        stack.up("--no-deps", "agent-2", JSNATS_QEMU_IMAGE=fresh)
        for each in (one, two):
            each.goes_on()
            each.check()
    stack.settings["JSNATS_QEMU_IMAGE"] = fresh
    assert stack.inspect("agent-2")["Id"] != old
    assert stack.inspect("agent-2")["Config"]["Labels"]["upgraded"] == "yes"
    with lab.lease("name=bench-3", wait="30s") as bench:
        bench.dut.power.on()
        bench.dut.serial.expect("SimBoot", since="boot", timeout=60)


def test_up_again_changes_nothing(stack: Any) -> None:
    """The containers and the credentials are the same."""
    before = {service: stack.inspect(service)["Id"] for service in SERVICES}
    stack.up()
    assert {service: stack.inspect(service)["Id"] for service in SERVICES} == before


def test_tests_run_their_broker_in_a_container(stack: Any) -> None:
    """Tests of roles, of MQTT and of kills pass on the nats-server of the image as on that of the wheel."""
    image = {"JSNATS_TEST_BROKER_IMAGE": UPGRADE, "TESTCONTAINERS_RYUK_DISABLED": "true"}
    tests = ["broker/tests/test_roles.py", "broker/tests/test_mqtt.py", "sdk/tests/e2e/test_faults.py"]
    chosen = ["-k", "test_may_publish or mqtt or slow_stream", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *chosen, *tests]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | image, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def test_nothing_is_left(stack: Any) -> None:
    """`down -v` takes containers, volumes and networks away."""
    stack.compose("down", "--volumes")
    assert stack.left() == ""
