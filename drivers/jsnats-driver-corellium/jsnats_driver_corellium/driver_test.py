import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import jsnats_driver_corellium
from jsnats.agent import load
from jsnats.driver import methods_of
from jsnats.testing import until_async
from jsnats_driver_corellium import power as power_module
from jsnats_driver_corellium.driver import Corellium
from jsnats_driver_corellium.power import CorelliumPower

from .client_test import NAME, bench, changes
from .testing import PROJECT, TOKEN, Fault, Machine, corellium

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")

CONFIG: Any = {
    "host": "app.corellium.com",
    "token": TOKEN,
    "project_id": PROJECT,
    "device_name": NAME,
    "device_flavor": "kronos",
}


@pytest.fixture
def cloud():
    """A Corellium."""
    with corellium() as cloud:
        yield cloud


@pytest.fixture
def impatient(monkeypatch):
    """The end of a lease does not wait for what is slow."""
    monkeypatch.setattr(power_module, "CLOSE_S", 0.05)


def power_of(driver: Corellium) -> CorelliumPower:
    """Its power."""
    power = driver.children["power"]
    assert isinstance(power, CorelliumPower)
    return power


# ------------------------------------------------------------------ the end of a lease


@needs_openssl
@pytest.mark.usefixtures("impatient")
async def test_a_device_that_is_still_created_is_switched_off_when_it_can_be(cloud):
    """The lease ends while it is created; nobody asks for it any more, and it does not stay on."""
    cloud.machines.append(Machine(NAME, "creating"))
    cloud.held.add("creating")
    power = power_of(bench(cloud))
    await power.close()
    cloud.release("creating")
    await until_async(lambda: cloud.machine(NAME).state == "off")
    await until_async(lambda: power._ending is None or power._ending.done())
    await power.stop()


@needs_openssl
@pytest.mark.usefixtures("impatient")
async def test_the_next_lease_takes_over(cloud):
    """Its on() is not undone by the end of the one before."""
    cloud.machines.append(Machine(NAME, "creating"))
    cloud.held.add("creating")
    power = power_of(bench(cloud))
    await power.close()
    on = asyncio.create_task(power.on())
    await until_async(lambda: power._ending is None)
    cloud.release("creating")
    await on
    assert cloud.machine(NAME).state == "on"
    assert changes(cloud) == []


@needs_openssl
@pytest.mark.usefixtures("impatient")
async def test_an_agent_that_stops_says_what_may_run_on(cloud, caplog):
    """It does not wait for minutes, and leaves no task."""
    cloud.machines.append(Machine(NAME, "creating"))
    cloud.held.add("creating")
    power = power_of(bench(cloud))
    before = asyncio.all_tasks()
    await power.close()
    await power.stop()
    assert asyncio.all_tasks() == before
    assert "bench-1 may run on: switch it off in Corellium" in caplog.text


@needs_openssl
@pytest.mark.usefixtures("impatient")
async def test_a_fault_after_the_end_of_a_lease_is_logged(cloud, caplog):
    """There is nobody else to tell."""
    cloud.machines.append(Machine(NAME, "creating"))
    cloud.held.add("creating")
    power = power_of(bench(cloud))
    await power.close()
    cloud.machine(NAME).state, cloud.machine(NAME).error = "error", "no space left"
    await until_async(lambda: "bench-1 was not switched off: bench-1 is in error: no space left" in caplog.text)


@needs_openssl
async def test_close_says_when_it_could_not_switch_off(cloud):
    """The agent has to know; the device may run on."""
    cloud.faults.append(Fault("GET", 403, body={"error": "no role"}))
    with pytest.raises(PermissionError, match="no role"):
        await power_of(bench(cloud)).close()


@needs_openssl
async def test_a_close_that_is_cut_leaves_no_task(cloud):
    """The agent's own limit ends all of it."""
    cloud.machines.append(Machine(NAME, "creating"))
    cloud.held.add("creating")
    before = asyncio.all_tasks()
    closing = asyncio.create_task(power_of(bench(cloud)).close())
    await until_async(lambda: len(cloud.asked) > 1)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await until_async(lambda: asyncio.all_tasks() == before)


# ------------------------------------------------------------------ calls
@needs_openssl
@pytest.mark.parametrize("kind", [502, "drop", "hang"])
async def test_a_look_survives_two_faults(cloud, kind):
    """A service that stumbles does not end a wait of minutes; the third time in a row is an error."""
    power = power_of(bench(cloud, timeout=0.5 if kind == "hang" else 20))
    cloud.faults.append(Fault("GET", kind, times=2))
    assert await power.is_on() is False
    cloud.faults.append(Fault("GET", kind, times=3))
    with pytest.raises((ConnectionError, TimeoutError), match="502|did not answer|/instances: "):
        await power.is_on()
    assert len(cloud.asked) == 6


@needs_openssl
async def test_a_caller_who_leaves_does_so_after_his_request(cloud):
    """on() is cancelled while Corellium thinks about creating the device; what comes next sees what became of it."""
    power = power_of(bench(cloud))
    cloud.faults.append(Fault("POST", "wait"))
    on = asyncio.create_task(power.on())
    await until_async(lambda: "POST /instances" in cloud.asked)
    on.cancel()
    off = asyncio.create_task(power.off())
    await asyncio.sleep(0)
    assert not on.done()
    cloud.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await on
    await off
    assert cloud.machine(NAME).state == "off"


@needs_openssl
async def test_on_waits_until_a_stop_is_over(cloud):
    """A device that is on and was told to stop is not on."""
    cloud.machines.append(Machine(NAME, "stopping"))
    cloud.held.add("stopping")
    on = asyncio.create_task(power_of(bench(cloud)).on())
    await until_async(lambda: len(cloud.asked) > 2)
    cloud.release("stopping")
    await on
    assert cloud.machine(NAME).state == "on"
    assert changes(cloud) == ["POST /instances/ID/start"]


@needs_openssl
async def test_off_waits_for_an_on_that_is_under_way(cloud):
    """Two callers do not fight over the device: the last one has it as he wants it."""
    cloud.held.add("booting")
    power = power_of(bench(cloud))
    on = asyncio.create_task(power.on())
    await until_async(lambda: cloud.machines and cloud.machine(NAME).state == "booting")
    off = asyncio.create_task(power.off())
    cloud.release("booting")
    await asyncio.gather(on, off)
    assert cloud.machine(NAME).state == "off"


# ------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"host": "https://app.corellium.com/api"}, "give the name alone"),
        ({"host": " "}, "at least 1 character"),
        ({"token": ""}, "at least 1 character"),
        ({"token": "two words"}, "no API token"),
        ({"token": "a\nb"}, "no API token"),
        ({"project_id": ""}, "project_id"),
        ({"device_name": ""}, "device_name"),
        ({"device_flavor": None}, "device_flavor"),
        ({"settle": 0}, "greater than 0"),
        ({"timeout": 1e9}, "less than or equal to 3600"),
        ({"tls_verify": "/there/is/none.pem"}, "tls_verify"),
        ({"console": "RSE"}, "console"),
    ],
)
def test_impossible_parameters_are_refused(wrong, told):
    """Before anything is asked, in words that say what to write."""
    with pytest.raises(ValidationError, match=told):
        Corellium(**CONFIG | wrong)


def test_an_authority_that_is_none_is_refused(tmp_path):
    """A file that holds no certificate is a mistake in the configuration, and not of the first call."""
    (tmp_path / "ca.pem").write_text("none")
    with pytest.raises(ValidationError, match="tls_verify"):
        Corellium(**CONFIG, tls_verify=tmp_path / "ca.pem")


def test_the_token_is_not_shown():
    """Neither by the driver nor by its children."""
    driver = Corellium(**CONFIG)
    assert TOKEN not in "".join(map(repr, (driver, *driver.children.values())))


def test_it_is_a_power_driver():
    """on, off, cycle, is_on and read of every virtual power driver, with the marker in the consoles."""
    methods = methods_of(CorelliumPower)
    assert {name: method.kind for name, method in methods.items()} == {
        "on": "call",
        "off": "call",
        "cycle": "call",
        "is_on": "call",
        "read": "stream",
    }
    assert methods["on"].marker == "power-on"


def test_the_example_is_a_valid_exporter(monkeypatch):
    """examples/exporter.yaml gives the device, with host and token of the environment."""
    monkeypatch.setenv("CORELLIUM_API_HOST", "lab.enterprise.corellium.com")
    monkeypatch.setenv("CORELLIUM_API_TOKEN", TOKEN)
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    device = exporter.root.children["rd1ae"]
    assert isinstance(device, Corellium)
    assert (device.host, device.token, device.device_flavor) == ("lab.enterprise.corellium.com", TOKEN, "kronos")
    assert list(device.children) == ["power", "serial"]


def test_the_package_offers_the_driver_lazily():
    """A client loads neither the driver nor requests; a name that is not there is an AttributeError."""
    assert jsnats_driver_corellium.Corellium is Corellium
    with pytest.raises(AttributeError, match="has no attribute 'Corellia'"):
        _ = jsnats_driver_corellium.Corellia
    unwanted = "{'jsnats.driver', 'jsnats_driver_corellium.driver', 'requests', 'websockets'}"
    code = f"import sys, jsnats_driver_corellium.client; print(sorted({unwanted} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n"
