import asyncio
import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

import jsnats_driver_gpiod
from jsnats.agent import load
from jsnats.common.exceptions import DriverConnectionError, DriverNotImplemented, DriverOSError
from jsnats.common.utils import serve
from jsnats.testing import until, until_async
from jsnats_driver_gpiod.driver import DigitalInput, DigitalOutput, PowerSwitch
from jsnats_driver_gpiod.edges import KEPT, Edges
from jsnats_driver_gpiod.interface import DigitalInputInterface
from jsnats_driver_gpiod.testing import BUFFERED, FakeChip, gpio_chips
from jsnats_driver_power.client import SwitchClient


def watchers(driver: DigitalInput) -> int:
    """How many calls watch the edges of its line."""
    return (driver._line._edges or Edges()).watchers


@pytest.fixture
def chip():
    """The only chip of this host."""
    with gpio_chips(FakeChip(label="lab", names={5: "RESET", 6: "BOOT"})) as (only,):
        yield only


# ------------------------------------------------------------------ which line


@pytest.mark.parametrize("device", ["/dev/gpiochip1", "gpiochip1", "relays"])
@pytest.mark.parametrize("line", [5, "5", "RESET"])
def test_a_chip_and_a_line_have_several_names(device, line):
    """A chip is found by path, name or label, a line by number or name."""
    with gpio_chips(FakeChip(), FakeChip("/dev/gpiochip1", "relays", names={5: "RESET"})) as (other, relays):
        driver = DigitalOutput(line=line, device=device)
        driver.on()
        assert relays.level(5) is True
        driver.close()
        assert not other.level(5)


@pytest.mark.parametrize(
    ("config", "kind", "told"),
    [
        ({"line": 8}, ValueError, r"gpiochip0 \(lab\) has no line 8: numbers 0 to 7, names RESET, BOOT$"),
        ({"line": "LED"}, ValueError, "has no line 'LED': numbers 0 to 7, names RESET, BOOT$"),
        (
            {"line": 1, "device": "/dev/gpiochip9"},
            FileNotFoundError,
            r"no /dev/gpiochip9: this host has /dev/gpiochip0 \(lab",
        ),
        (
            {"line": 1, "device": "leds"},
            FileNotFoundError,
            r"no GPIO chip is called 'leds': this host has /dev/gpiochip0",
        ),
    ],
)
def test_what_is_not_there_is_told_with_what_is(chip, config, kind, told):
    """A wrong line or chip is one line that says which there are."""
    with pytest.raises(kind, match=told):
        DigitalInput(**config).read_pin()


def test_a_chip_whose_lines_have_no_names():
    """The message says so."""
    with gpio_chips(FakeChip()), pytest.raises(ValueError, match="numbers 0 to 7, none has a name"):
        DigitalInput(line="RESET").read_pin()


def test_a_host_without_chips():
    """It says that there are none."""
    with gpio_chips(), pytest.raises(FileNotFoundError, match="this host has no GPIO chip"):
        DigitalInput(line=1).read_pin()


def test_two_chips_with_one_label():
    """Neither is taken; a path must be given."""
    with gpio_chips(FakeChip(), FakeChip("/dev/gpiochip1")), pytest.raises(ValueError, match="are both called 'fake'"):
        DigitalInput(line=1, device="fake").read_pin()


@pytest.mark.parametrize("device", ["/dev/gpiochip0", "relays"])
def test_a_chip_that_may_not_be_opened(chip, device):
    """It is a PermissionError that says what to do."""
    chip.fault = errno.EACCES
    with pytest.raises(PermissionError, match="/dev/gpiochip0 may not be opened: put .* into the group"):
        DigitalInput(line=1, device=device).read_pin()


@pytest.mark.parametrize("device", ["/dev/null", "/etc/hostname"])
def test_what_is_no_chip(device):
    """libgpiod itself says so."""
    with pytest.raises(OSError, match=f"{device} is no GPIO chip"):
        DigitalInput(line=1, device=device).read_pin()


def test_a_line_that_somebody_has(chip):
    """The message says who."""
    chip.lines[3].user = "spi0 CS0"
    with pytest.raises(OSError, match="line 3 of /dev/gpiochip0 is in use by 'spi0 CS0'"):
        DigitalOutput(line=3).on()
    first = DigitalInput(line=4)
    first.read_pin()
    with serve(PowerSwitch(line=4)) as client, pytest.raises(DriverOSError, match="in use by 'jsnats'"):
        client.on()
    first.close()


# ------------------------------------------------------------------ outputs


def test_open_drain_lets_go_of_high(chip):
    """An output that is open drain pulls low, and high is what the world makes of it."""
    driver = DigitalOutput(line=5, active_low=True, drive="open_drain", bias="pull_up")
    driver.on()
    assert chip.level(5) is False
    driver.off()
    assert chip.level(5) is True
    chip.apply(5, False)
    assert driver.read_pin() is True


@pytest.mark.parametrize("value", ["active", "on", True])
async def test_an_initial_value(chip, value):
    """The line is that from the beginning of a lease, and again at its end."""
    driver = DigitalOutput(line=5, initial_value=value)
    await driver.reset()
    assert chip.level(5) is True
    driver.off()
    assert chip.level(5) is False
    driver.close()
    assert (chip.level(5), chip.held(5)) == (True, False)


async def test_preserve_leaves_the_line_to_the_holder(chip):
    """An agent that is started anew during a lease changes nothing, and the end of that lease makes it inactive."""
    DigitalOutput(line=5).on()
    chip.lines[5].request.release()  # as the kernel does for a process that is killed
    driver = DigitalOutput(line=5)
    await driver.reset()
    assert driver.read_pin() is True
    driver.close()
    assert (chip.level(5), chip.held(5)) == (False, False)


def test_an_output_that_was_never_driven_stays_an_input(chip):
    """Neither asking nor the end of a lease drives it."""
    chip.apply(5, True)
    driver = DigitalOutput(line=5)
    assert driver.read_pin() is True
    driver.close()
    assert chip.lines[5].driven is None


def test_a_power_switch(chip):
    """on, off, cycle and is_on are the relay's line, it does not measure, and the end of the exporter switches off."""
    with serve(PowerSwitch(line=1, active_low=True)) as client:
        assert isinstance(client, SwitchClient)
        client.on()
        assert (chip.level(1), client.is_on()) == (False, True)
        client.off()
        assert (chip.level(1), client.is_on()) == (True, False)
        client.cycle(0.0)
        assert client.is_on() is True
        assert CliRunner().invoke(client.cli(), ["state"]).output == "on\n"
        with pytest.raises(NotImplementedError, match="is_on"):
            next(client.read())
    assert (chip.level(1), chip.held(1)) == (True, False)


def test_a_power_switch_found_on_stays_on(chip):
    """Asking for the state switches nothing."""
    PowerSwitch(line=1).on()
    chip.lines[1].request.release()
    with serve(PowerSwitch(line=1)) as client:
        assert client.is_on() is True
        assert chip.level(1) is True
    assert chip.level(1) is False


# ------------------------------------------------------------------ inputs


def test_a_resistor(chip):
    """With pull_up an open line is high."""
    assert DigitalInput(line=1, bias="pull_up").read_pin() is True
    assert DigitalInput(line=2, bias="pull_down").read_pin() is False


def test_a_line_without_interrupts():
    """It can be read, and a wait says at once that it is in vain."""
    with gpio_chips(FakeChip(interrupts=False)), serve(DigitalInput(line=1)) as client:
        for _ in range(2):
            with pytest.raises(DriverNotImplemented, match="line 1 of /dev/gpiochip0 has no interrupt"):
                client.wait_for_active()
            assert client.read_pin() is False


def test_a_chip_that_is_unplugged(chip):
    """Who waits is told, and the next call finds the chip when it is back."""
    with serve(DigitalInput(line=1)) as client, ThreadPoolExecutor() as pool:
        waiting = [pool.submit(client.wait_for_active), pool.submit(next, client.events())]
        until(lambda: chip.watched(1))
        assert client.read_pin() is False
        chip.unplug()
        for each in waiting:
            assert isinstance(each.exception(20), DriverConnectionError)
        with pytest.raises(DriverOSError, match="this host has no GPIO chip"):
            client.wait_for_active()
        chip.gone = False
        chip.apply(1, True)
        client.wait_for_active(20)


def test_a_chip_whose_loss_a_call_finds(chip):
    """On an older kernel, which wakes nobody, the next call tells those who wait."""
    with serve(DigitalInput(line=1)) as client, ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.wait_for_active)
        until(lambda: chip.watched(1))
        chip.gone = True
        with pytest.raises(DriverConnectionError, match="line 1 of /dev/gpiochip0: the chip is gone"):
            client.read_pin()
        assert isinstance(waiting.exception(20), DriverConnectionError)


async def test_edges_of_before_do_not_count(chip):
    """The kernel keeps the edges between two waits; the second takes none of them, and counts none as missed."""
    driver = DigitalInput(line=1)
    with pytest.raises(TimeoutError):
        await driver.wait_for_edge(timeout=0)
    for high in (True, False) * BUFFERED:
        chip.apply(1, high)
    waiting = asyncio.ensure_future(driver.wait_for_edge(timeout=20))
    await until_async(lambda: watchers(driver) == 1)
    chip.apply(1, True)
    edge = await waiting
    assert (edge.type, edge.missed) == ("rising", 0)
    driver.close()


async def test_edges_that_come_too_fast_are_counted(chip):
    """Of 20 edges at once the kernel keeps 16, and the first that is told has missed 4."""
    driver = DigitalInput(line=1)
    events = driver.events()
    first = asyncio.ensure_future(anext(events))
    await until_async(lambda: chip.watched(1))
    for number in range(20):
        chip.apply(1, number % 2 == 0)
    assert (await first).missed == 20 - BUFFERED
    assert [(await anext(events)).missed for _ in range(BUFFERED - 1)] == [0] * (BUFFERED - 1)
    await events.aclose()
    driver.close()


async def test_a_reader_that_is_too_slow_misses_the_oldest():
    """A watcher keeps KEPT edges, and the next one says how many were dropped."""
    edges = Edges()
    with edges.watch(0) as watcher:
        for number in range(1, KEPT + 4):
            edges.put(number, "rising", 1)
        assert [(await anext(watcher)).missed, (await anext(watcher)).missed] == [3, 0]


async def test_a_wait_that_is_cancelled_leaves_nothing(chip):
    """Its task ends at once, nobody watches, and the loop has no file of it."""
    driver = DigitalInput(line=1)
    for wait in (driver.wait_for_active, driver.wait_for_edge, driver.events().__anext__):
        before = asyncio.all_tasks()
        waiting = asyncio.ensure_future(wait())
        await until_async(lambda: watchers(driver) == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert asyncio.all_tasks() == before
        assert watchers(driver) == 0
        assert not asyncio.get_running_loop().remove_reader(chip.lines[1].request.fd)
    driver.close()


# ------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    ("driver", "wrong", "told"),
    [
        (DigitalInput, {"line": -1}, "line"),
        (DigitalInput, {"line": ""}, "line"),
        (DigitalInput, {"line": 1, "device": ""}, "device"),
        (DigitalInput, {"line": 1, "bias": "up"}, "'as_is', 'pull_up', 'pull_down' or 'disabled'"),
        (DigitalInput, {"line": 1, "drive": "push_pull"}, "drive"),
        (DigitalOutput, {"line": 1, "drive": "open"}, "'push_pull', 'open_drain' or 'open_source'"),
        (DigitalOutput, {"line": 1, "initial_value": "high"}, "'active', 'inactive' or 'preserve'"),
        (PowerSwitch, {"line": 1, "initial_value": 1}, "'active', 'inactive' or 'preserve'"),
        (PowerSwitch, {}, "line"),
    ],
)
def test_impossible_parameters_are_refused(driver, wrong, told):
    """Before a chip is opened."""
    with pytest.raises(ValidationError, match=told):
        driver(**wrong)


def test_the_example_is_a_valid_exporter():
    """examples/exporter.yaml gives the drivers with the parameters it says."""
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    power, reset, led = (exporter.root.children[name] for name in ("power", "reset", "led"))
    assert isinstance(power, PowerSwitch)
    assert (power.device, power.line, power.active_low) == ("pinctrl-bcm2711", 17, True)
    assert isinstance(reset, DigitalOutput)
    assert (reset.line, reset.drive, reset.initial_value) == ("RESET", "open_drain", "inactive")
    assert isinstance(led, DigitalInput)
    assert (led.device, led.line, led.bias) == ("/dev/gpiochip0", 27, "pull_down")


def test_the_package_offers_the_drivers_lazily():
    """`from jsnats_driver_gpiod import PowerSwitch` works, and a name that is not there is an AttributeError."""
    assert jsnats_driver_gpiod.PowerSwitch is PowerSwitch
    assert jsnats_driver_gpiod.DigitalInputInterface is DigitalInputInterface
    with pytest.raises(AttributeError, match="Nothing"):
        _ = jsnats_driver_gpiod.Nothing


def test_a_client_does_not_load_the_exporters_side():
    """The client's module loads neither gpiod nor a driver."""
    code = "import sys, jsnats_driver_gpiod.client; print({'gpiod', 'jsnats.driver'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "set()"
