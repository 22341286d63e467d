import re
import shutil
import threading
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pexpect
import pytest
from click.testing import CliRunner

from jsnats.common.exceptions import DriverConnectionError, DriverError, DriverTimeout
from jsnats.common.utils import serve
from jsnats.testing import until
from jsnats_driver_corellium.driver import Corellium
from jsnats_driver_power.client import VirtualPowerClient
from jsnats_driver_pyserial.client import PySerialClient

from .testing import PROJECT, TOKEN, Fault, Machine, corellium

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")

NAME = "bench-1"
CREATE = "POST /instances"


def bench(cloud, **options: Any) -> Corellium:
    """The driver of a device in the cloud."""
    config = {
        "host": cloud.host,
        "token": TOKEN,
        "project_id": PROJECT,
        "device_name": NAME,
        "device_flavor": "kronos",
        "interval": 0.01,
        "settle": 20,
        "tls_verify": cloud.authority,
    }
    return Corellium(**config | options)


@pytest.fixture
def cloud():
    """A Corellium."""
    with corellium() as cloud:
        yield cloud


@contextmanager
def leased(cloud, **options: Any):
    """A client of the device."""
    with serve(bench(cloud, **options)) as client:
        yield client
        cloud.faults.clear()  # so that the end of the lease can switch off
        cloud.held.clear()


def changes(cloud) -> list[str]:
    """What was asked for that changes something, without the ids."""
    return [re.sub(r"[0-9a-f-]{36}", "ID", each) for each in cloud.asked if not each.startswith("GET")]


# ------------------------------------------------------------------ power


def test_the_first_on_creates_and_the_end_of_a_lease_switches_off(cloud):
    """on() waits until the device is on; off, on again is the same device; destroy removes it; each twice is once."""
    with serve(bench(cloud)) as client:
        assert isinstance(client.power, VirtualPowerClient)
        assert client.power.is_on() is False
        for _ in range(2):
            client.power.on()
            assert cloud.machine(NAME).state == "on"
            assert client.power.is_on() is True
        for _ in range(2):
            client.power.off()
            assert cloud.machine(NAME).state == "off"
        client.power.on()
        assert changes(cloud) == [CREATE, "POST /instances/ID/stop", "POST /instances/ID/start"]
        for _ in range(2):
            client.power.off(destroy=True)
            assert cloud.machines == []
        client.power.on()
    assert cloud.machine(NAME).state == "off"


def test_the_end_of_a_lease_destroys_when_told_to(cloud):
    """With destroy_at_end nothing is left."""
    with serve(bench(cloud, destroy_at_end=True)) as client:
        client.power.on()
    assert cloud.machines == []


@pytest.mark.parametrize("state", ["off", "on", "paused", "booting", "rebooting", "stopping", "creating"])
def test_on_and_off_begin_in_any_state(cloud, state):
    """A device that others have made, or a call that was given up has left, is brought where it is wanted."""
    cloud.machines.append(Machine(NAME, state))
    with leased(cloud) as client:
        client.power.on()
        assert cloud.machine(NAME).state == "on"
        cloud.machine(NAME).state = state
        client.power.off()
        assert cloud.machine(NAME).state == "off"
    assert CREATE not in cloud.asked


def test_a_model_is_a_flavor_too(cloud):
    """device_flavor may name the model, as Jumpstarter's configurations do."""
    with leased(cloud, device_flavor="rd1ae") as client:
        client.power.on()
        assert cloud.machine(NAME).state == "on"


def test_cycle_is_off_then_on(cloud):
    """It runs on the exporter."""
    with leased(cloud) as client:
        client.power.on()
        client.power.cycle(0)
        assert changes(cloud) == [CREATE, "POST /instances/ID/stop", "POST /instances/ID/start"]


def test_progress_is_told(cloud):
    """Who waits sees the states that the device passes through."""
    told: list[Any] = []
    with leased(cloud) as client:
        client.options(on_progress=told.append).power.on()
    assert {each["message"] for each in told} <= {f"{NAME} is {state}" for state in ("none", "creating", "booting")}
    assert told


def test_a_virtual_device_measures_nothing(cloud):
    """read() says so, and what to ask instead."""
    with leased(cloud) as client, pytest.raises(NotImplementedError, match="is_on"):
        next(client.power.read())


def test_a_device_that_does_not_come_up_is_a_timeout(cloud):
    """It says in which state it stayed; what comes next finds it there."""
    cloud.machines.append(Machine(NAME, "booting"))
    cloud.held.add("booting")
    with leased(cloud, settle=1.5) as client:
        with pytest.raises(DriverTimeout, match=f"{NAME} is booting after 1.5 s, not on"):
            client.power.on()
        cloud.machine(NAME).state = "off"


def test_a_cancelled_on_creates_one_device(cloud):
    """Given up while it is created, it goes on being created; the next on() waits for that one."""
    cloud.held.add("creating")
    with leased(cloud) as client:
        with pytest.raises(TimeoutError):
            client.power.options(timeout_s=2).on()
        assert client.status()["state"] == "creating"
        cloud.release("creating")
        client.power.on()
        client.power.off()
    assert changes(cloud) == [CREATE, "POST /instances/ID/stop"]


def test_a_device_in_error_says_why_and_can_be_destroyed(cloud):
    """on() and off() tell Corellium's reason; off(destroy=True) removes it."""
    cloud.machines.append(Machine(NAME, "error", error="no space left"))
    with leased(cloud) as client:
        for call in (client.power.on, client.power.off):
            with pytest.raises(DriverConnectionError, match="is in error: no space left: destroy it"):
                call()
        assert client.status()["error"] == "no space left"
        client.power.off(destroy=True)
        assert cloud.machines == []


def test_two_of_a_name_are_not_guessed_between(cloud):
    """Corellium does not keep names apart; in another project it is another device."""
    cloud.machines += [Machine(NAME, "off", project="another"), Machine(NAME, "off")]
    with leased(cloud) as client:
        client.power.on()
        assert [each.state for each in cloud.machines] == ["off", "on"]
        cloud.machines.append(Machine(NAME, "off"))
        with pytest.raises(ValueError, match="there are 2 devices bench-1 in the project: rename or remove one"):
            client.power.off()
        cloud.machines.pop()


def test_what_does_not_exist_is_told(cloud):
    """A flavor with those there are, a system in Corellium's words, a project with what is meant."""
    with leased(cloud, device_flavor="ranchu") as client, pytest.raises(ValueError, match="'ranchu': there is kronos"):
        client.power.on()
    with (
        leased(cloud, device_os="9.9") as client,
        pytest.raises(ValueError, match=r"answered 400: Unsupported operating system \(os\)"),
    ):
        client.power.on()
    with leased(cloud, project_id="none/../such") as client, pytest.raises(ValueError, match="has no project"):
        client.power.on()
    assert "GET /projects/none%2F..%2Fsuch/instances" in cloud.asked


# ------------------------------------------------------------------ faults of the service


@pytest.mark.parametrize(
    ("fault", "error", "told"),
    [
        ({"kind": 401, "body": {"error": "expired"}}, OSError, "answered 401: expired: is the token right?"),
        ({"kind": 403, "body": {"error": "no role"}}, OSError, "answered 403: no role$"),
        ({"kind": 400, "body": {"error": "what?", "field": "x"}}, ValueError, r"answered 400: what\? \(x\)"),
        ({"kind": 409, "body": {"error": "quota"}}, ConnectionError, "answered 409: quota"),
        ({"kind": 500, "body": "<html>"}, ConnectionError, "answered 500: Internal Server Error"),
        ({"kind": 503, "body": {"error": "maintenance"}}, ConnectionError, "answered 503: maintenance"),
        ({"kind": 302, "headers": {"Location": "https://x/?secret"}}, ConnectionError, "answered 302: Found$"),
        ({"kind": 200, "body": "<html>"}, ConnectionError, "answered what was not asked for: '<html>'"),
        ({"kind": 200, "body": {"name": "x"}}, ConnectionError, "answered what was not asked for: id: Field required"),
        ({"kind": 429, "headers": {"Retry-After": "600"}}, ConnectionError, "too many requests, the next one in 600 s"),
        ({"kind": "hang"}, TimeoutError, "did not answer within 1 s"),
        ({"kind": "drop"}, ConnectionError, "/api/v1/instances: "),
    ],
)
def test_a_fault_of_the_service_is_an_error_of_the_call(cloud, fault, error, told):
    """Each tells what Corellium did, and not the token; what creates a device is not asked a second time."""
    cloud.faults.append(Fault("POST", **fault))
    with leased(cloud, timeout=1 if fault["kind"] == "hang" else 20) as client:
        with pytest.raises(error, match=told) as caught:
            client.power.on()
        assert isinstance(caught.value, DriverError)
        assert TOKEN not in str(caught.value)
        assert changes(cloud) == [CREATE]
        client.power.on()


@pytest.mark.parametrize("after", ["0", formatdate(usegmt=True)], ids=["seconds", "date"])
def test_too_many_requests_are_made_later(cloud, after):
    """As many seconds as Retry-After says, or at its date; what was refused so is asked again."""
    cloud.faults += [Fault(each, 429, headers={"Retry-After": after}) for each in ("GET", CREATE)]
    with leased(cloud) as client:
        client.power.on()
    assert cloud.asked.count(CREATE) == 2


@pytest.mark.parametrize("status", [400, 409])
def test_what_is_refused_now_is_tried_again(cloud, status):
    """Corellium may be in the middle of something of which nothing is to be seen; a time-out tells its reason."""
    cloud.machines.append(Machine(NAME, "off"))
    cloud.faults.append(Fault("/start", status, times=2, body={"error": "a snapshot is being taken"}))
    with leased(cloud) as client:
        client.power.on()
    assert changes(cloud)[:3] == ["POST /instances/ID/start"] * 3
    cloud.machine(NAME).state = "on"
    with leased(cloud, settle=1) as client:
        cloud.faults.append(Fault("/stop", status, times=10_000, body={"error": "a snapshot is being taken"}))
        with pytest.raises(TimeoutError, match="is on after 1 s, not off: .* a snapshot is being taken"):
            client.power.off()


def test_a_wrong_token_is_told_without_it(cloud):
    """Corellium answers 403."""
    with serve(bench(cloud, token="guess")) as client, pytest.raises(OSError, match="Invalid or missing") as caught:
        client.power.on()
    assert "guess" not in str(caught.value)


def test_the_certificate_is_checked_unless_told_not_to(cloud):
    """One of an unknown authority is refused, that of the API and that of the console."""
    with (
        serve(bench(cloud, tls_verify=True)) as client,
        pytest.raises(ConnectionError, match="(?i)certificate"),
    ):
        client.power.on()
    with leased(cloud, tls_verify=False) as client:
        client.power.on()
        until(lambda: client.serial.status()["open"])


def test_a_console_without_tls_is_not_taken(cloud):
    """What is typed there may be a password."""
    cloud.console_url = cloud.console_url.replace("wss", "ws")
    with leased(cloud) as client:
        client.power.on()
        until(lambda: "not wss://" in client.serial.status()["reason"])


# ------------------------------------------------------------------ the console


def test_the_console_has_the_first_words_of_a_boot(cloud):
    """It is connected while the device boots, and recorded from the marker of power-on."""
    cloud.held.add("booting")
    with leased(cloud) as client, client.serial:
        assert isinstance(client.serial, PySerialClient)
        with pytest.raises(TimeoutError):
            client.power.options(timeout_s=2).on()
        until(lambda: client.serial.status()["open"])
        cloud.release("booting")
        client.power.on()
        assert client.serial.expect(r"Monitor (\S+)\r", timeout=20, since="10m").group(1) == "1.1.1"
        client.serial.sendline("version")
        client.serial.expect(r"version\r\n1.1.1\r\ncam> ", timeout=20)


def test_pexpect_runs_on_the_console(cloud):
    """As on any serial console."""
    with leased(cloud) as client:
        client.power.on()
        until(lambda: client.serial.status()["open"])
        with client.serial.pexpect(timeout=20) as spawn:
            spawn.sendline("help")
            spawn.expect("help version\r\ncam> ")
            with pytest.raises(pexpect.TIMEOUT):
                spawn.expect("never", timeout=0.05)


def test_the_console_comes_and_goes_with_the_power(cloud):
    """Without power it says what to do; it is back after each on()."""
    with leased(cloud) as client:
        until(lambda: "is none: switch its power on" in client.serial.status()["reason"])
        for _ in range(2):
            client.power.on()
            until(lambda: client.serial.status()["open"])
            client.power.off()
            until(lambda: "is off: switch its power on" in client.serial.status()["reason"])


def test_a_console_that_breaks_is_opened_again(cloud):
    """The device runs on."""
    with leased(cloud) as client, client.serial:
        client.power.on()
        until(lambda: cloud.machine(NAME).readers)
        (was,) = cloud.machine(NAME).readers
        was.close()
        until(lambda: cloud.machine(NAME).readers not in ([], [was]))
        until(lambda: client.serial.status()["open"])
        client.serial.sendline()
        client.serial.expect("cam> ", timeout=20)


def test_an_unknown_console_is_told_with_those_there_are(cloud):
    """So does status(), which needs no guess."""
    with leased(cloud, console_name="Primary") as client:
        client.power.on()
        until(lambda: client.serial.status()["reason"].endswith("'Primary': there is Primary Compute Non-Secure, RSE"))
        assert client.status()["consoles"] == ["Primary Compute Non-Secure", "RSE"]


def test_the_address_of_a_console_is_a_secret(cloud):
    """Whoever has it has the console: a failure names the device instead."""
    good, cloud.console_url = cloud.console_url, "wss://127.0.0.1:1/console/secret"
    with leased(cloud) as client:
        client.power.on()
        until(lambda: "cannot connect to the console of bench-1" in client.serial.status()["reason"])
        assert "secret" not in client.serial.status()["reason"]
        cloud.console_url = good


# ------------------------------------------------------------------ the command line


def test_the_commands(cloud):
    """`j power on`, `state`, `off --destroy`."""
    with leased(cloud) as client:
        power = client.power.cli()

        def said(*words: str) -> str:
            done = CliRunner().invoke(power, words, catch_exceptions=False)
            assert done.exit_code == 0
            return done.output

        said("on")
        assert said("state") == "on\n"
        said("off", "--destroy")
        assert said("state", "--json") == "false\n"
        assert cloud.machines == []
        assert "status" in CliRunner().invoke(client.cli(), ["--help"]).output


README = Path(__file__).parents[1] / "README.md"


def test_the_readme_tells_the_truth(cloud, monkeypatch, capsys):
    """Its Python runs against a Corellium, and prints what it says."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    monkeypatch.setenv("CORELLIUM_API_TOKEN", TOKEN)
    code = code.replace('corellium.lab.example"', f'{cloud.host}", tls_verify="{cloud.authority}"')
    cloud.held.add("booting")  # until the console is there: a real device takes its time

    def connected() -> None:
        until(lambda: any(each.readers for each in cloud.machines))
        cloud.release("booting")

    watcher = threading.Thread(target=connected)
    watcher.start()
    exec(compile(code, "README.md", "exec"), {})
    watcher.join()
    assert capsys.readouterr().out.endswith("1.1.1\n")
    assert cloud.machine("bench-1-rd1ae").state == "off"
