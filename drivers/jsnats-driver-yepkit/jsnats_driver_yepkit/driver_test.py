import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pydantic import ValidationError

import jsnats_driver_yepkit
from jsnats.agent import load
from jsnats_driver_yepkit import hub
from jsnats_driver_yepkit.driver import Ykush
from jsnats_driver_yepkit.testing import FakeYkush, HidBus

SERIAL = os.environ.get("JSNATS_TEST_YKUSH")


@pytest.fixture
def ykush():
    """A hub with three ports that are off, on the bus."""
    device = FakeYkush()
    bus = HidBus(device)
    with bus.attached():
        yield device
    assert (bus.open, device.claimed) == ([], False)


def commands(device: FakeYkush) -> list[int]:
    """What it was sent, all as reports of 64 bytes of which the first is the command."""
    assert {(len(report), report[1:]) for report in device.reports} == {(64, bytes(63))}
    return [report[0] for report in device.reports]


# ------------------------------------------------------------------ the protocol


@pytest.mark.parametrize("port", ["1", "2", "3"])
def test_a_port_gets_the_commands_of_ykushcmd(ykush, port):
    """0x1N switches on, 0x0N off, 0x2N asks; each switch is followed by a question, and no other port changes."""
    number = int(port)
    driver = Ykush(port=port)
    assert not driver.is_on()
    driver.on()
    assert (ykush.on, driver.is_on()) == ({number}, True)
    driver.off()
    assert (ykush.on, driver.is_on()) == (set(), False)
    ask = 0x20 + number
    assert commands(ykush) == [ask, 0x10 + number, ask, ask, number, ask, ask]


def test_all_ports_are_switched_by_one_command(ykush):
    """0x1A and 0x0A, and then every port is asked."""
    driver = Ykush()
    driver.on()
    assert (ykush.on, driver.is_on()) == ({1, 2, 3}, True)
    driver.off()
    assert (ykush.on, driver.is_on()) == (set(), False)
    assert commands(ykush) == [0x1A, 0x21, 0x22, 0x23, 0x21, 0x22, 0x23, 0x0A, 0x21, 0x22, 0x23, 0x21, 0x22, 0x23]


def test_all_ports_are_on_or_off_or_neither(ykush):
    """Somebody has switched one of them: there is no answer to whether all are on."""
    ykush.on = {1, 3}
    with pytest.raises(ValueError, match="of the ports of the YKUSH, on is only 1, 3: neither on nor off"):
        Ykush().is_on()


def test_a_ykush3_has_the_same_commands():
    """Under its own number."""
    with HidBus(device := FakeYkush(product_id=0xF11B, product="YKUSH3")).attached():
        Ykush(port="3").on()
        assert device.on == {3}


def test_a_ykush_xs_has_one_port():
    """Which is also all of them, and there is no second."""
    with HidBus(device := FakeYkush(product_id=0xF0CD, product="YKUSH XS", count=1)).attached():
        Ykush().on()
        assert device.on == {1}
        Ykush(port="1").off()
        with pytest.raises(ValueError, match="the YKUSH has 1 port, and none with number 2"):
            Ykush(port="2").on()
        assert commands(device) == [0x11, 0x21, 0x01, 0x21]


def test_the_kernel_gets_its_interface_back(ykush):
    """usbhid has it before and after, so that Yepkit's own command works beside the exporter."""
    Ykush().on()
    assert (ykush.told, ykush.kernel_driver) == (["detach", "attach"], True)


def test_a_hub_that_another_program_has_is_waited_for(ykush):
    """It gives it back to the kernel, from which it has to be taken then."""
    ykush.taken, ykush.kernel_driver = 2, False
    Ykush(port="1").on()
    assert ykush.on == {1}


def test_a_hub_that_another_program_keeps_is_an_error(ykush, monkeypatch):
    """After a while."""
    monkeypatch.setattr(hub, "BUSY_S", 0.1)
    ykush.taken, ykush.kernel_driver = 1000, False
    with pytest.raises(OSError, match="the YKUSH is in use by another program"):
        Ykush().on()


def test_an_old_answer_is_not_taken_for_the_new_one(ykush):
    """Of a program that was killed between its question and the answer."""
    ykush.answers = [bytes([1, 0x11]).ljust(64, b"\0")] * 2
    assert not Ykush(port="1").is_on()


def test_an_empty_report_is_no_answer(ykush, monkeypatch):
    """Some device controllers end an answer of a whole packet with one; Linux's own HID driver passes over it too."""
    take = ykush.take

    def ended(report: bytes) -> None:
        take(report)
        ykush.answers.append(b"")

    monkeypatch.setattr(ykush, "take", ended)
    Ykush().on()
    assert ykush.on == {1, 2, 3}


def test_ports_of_one_hub_take_turns(ykush, monkeypatch):
    """Each is a driver of its own with a thread of its own: one waits for the other, and never finds the hub in use."""
    monkeypatch.setattr(hub, "BUSY_S", -1)
    other = threading.Thread(target=Ykush(port="2").on)
    take = ykush.take

    def meanwhile(report: bytes) -> None:
        if not other.ident:
            other.start()
            other.join(0.2)
        take(report)

    monkeypatch.setattr(ykush, "take", meanwhile)
    Ykush(port="1").on()
    other.join(30)
    assert ykush.on == {1, 2}


# ------------------------------------------------------------------ faults


def test_the_hub_is_found_by_serial_number_or_usb_port():
    """One that is the only one needs neither."""
    one, two = FakeYkush(), FakeYkush(serial="YK20002", ports=(5,))
    with HidBus(one, two).attached():
        Ykush(serial="YK20002", port="1").on()
        assert (one.on, two.on) == (set(), {1})
        Ykush(serial="1-2.4", port="2").on()
        assert (one.on, two.on) == ({2}, {1})
        with pytest.raises(ValueError, match="there are 2, say which: YK20001 at port 1-2.4, YK20002 at port 1-5"):
            Ykush().on()
        with pytest.raises(ConnectionError, match="YKUSH YK3 is not plugged in"):
            Ykush(serial="YK3").on()


def test_a_hub_that_may_not_be_used_says_so(ykush):
    """And what to do."""
    ykush.denied = True
    with pytest.raises(PermissionError, match="udev rule of the driver's README"):
        Ykush().on()
    ykush.denied = False


@pytest.mark.parametrize(
    ("spoil", "kind", "told"),
    [
        ({"plugged": False}, ConnectionError, "the YKUSH is not plugged in"),
        ({"fault": errno.ENODEV}, ConnectionError, "the YKUSH is not plugged in"),
        ({"deaf": True}, TimeoutError, "the YKUSH does not answer"),
        ({"stuck": {2}}, OSError, "did not switch port 2 on, and says that it did"),
        ({"refuses": {0x12}}, OSError, "refuses command 0x12: it answers ff ff"),
        ({"refuses": {0x22}}, OSError, "refuses command 0x22"),
    ],
)
def test_a_fault_of_the_hub_is_told(ykush, spoil, kind, told):
    """Each in its words; afterwards it is open for nobody."""
    for name, value in spoil.items():
        setattr(ykush, name, value)
    with pytest.raises(kind, match=told):
        Ykush(port="2").on()


def test_a_hub_that_is_pulled_out_half_way_is_a_connection_error(ykush, monkeypatch):
    """Between the command and its answer; plugged in again, it is found."""
    take = ykush.take

    def pull(report: bytes) -> None:
        take(report)
        ykush.plugged = False

    monkeypatch.setattr(ykush, "take", pull)
    driver = Ykush(port="2")
    with pytest.raises(ConnectionError, match="the YKUSH is gone: it was unplugged"):
        driver.on()
    monkeypatch.undo()
    ykush.plugged, ykush.answers = True, []
    with HidBus(ykush).attached():
        driver.off()
    assert ykush.on == set()


def test_an_answer_for_another_port_is_not_believed(ykush, monkeypatch):
    """As from a hub that is not one."""
    monkeypatch.setattr(ykush, "_answer", lambda command: bytes([1, 0x13]))
    with pytest.raises(OSError, match="was asked for port 2 and answers 0x13"):
        Ykush(port="2").is_on()


def test_something_without_hid_is_no_hub(ykush, monkeypatch):
    """A hub whose firmware is being written."""
    really = HidBus.get_interface_descriptor

    def other(*args):
        found = really(*args)
        found.bInterfaceClass = 0xFF
        return found

    monkeypatch.setattr(HidBus, "get_interface_descriptor", other)
    with pytest.raises(ConnectionError, match="the YKUSH has no HID interface"):
        Ykush().on()


# ------------------------------------------------------------------ leases and configuration


@pytest.mark.parametrize(("default", "at_start", "at_end"), [("off", False, False), ("on", True, True)])
async def test_the_default_begins_and_ends_a_lease(ykush, default, at_start, at_end):
    """Whatever was done in it."""
    driver = Ykush(port="1", default=default)
    ykush.on = {2}
    await driver.reset()
    assert ykush.on == ({1, 2} if at_start else {2})
    driver.off() if at_start else driver.on()
    await driver.close()
    assert ykush.on == ({1, 2} if at_end else {2})


async def test_a_port_that_is_kept_is_left_alone(ykush):
    """Not even asked; also when there is no hub."""
    driver = Ykush(default="keep")
    await driver.reset()
    await driver.close()
    ykush.plugged = False
    await driver.close()
    assert ykush.reports == []


def test_it_does_not_measure():
    """read() says so, and what to ask instead."""
    with pytest.raises(NotImplementedError, match="is_on"):
        Ykush().read()


def test_numbers_and_yamls_words_are_taken():
    """`port: 1` is a number in YAML, and `default: off` is false."""
    for word, value in (("off", False), ("on", True)):
        driver = Ykush(port=1, default=value)  # type: ignore[arg-type]
        assert (driver.port, driver.default) == ("1", word)


@pytest.mark.parametrize(
    ("config", "told"),
    [({"port": "4"}, "port"), ({"port": 0}, "port"), ({"default": "maybe"}, "default"), ({"serial": ""}, "serial")],
)
def test_a_wrong_parameter_is_refused(config, told):
    """When the file is read, by its name."""
    with pytest.raises(ValidationError, match=told):
        Ykush(**config)


def test_the_example_is_a_valid_exporter():
    """examples/exporter.yaml gives two ports of one hub, as it says; no hub has to be there for that."""
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    found = [
        (each.serial, each.port, each.default) for each in exporter.root.children.values() if isinstance(each, Ykush)
    ]
    assert found == [("YK20001", "1", "off"), ("YK20001", "3", "on")]


def test_the_package_offers_the_driver_lazily():
    """`from jsnats_driver_yepkit import Ykush` works, the package alone loads no pyusb, and there is nothing else."""
    assert jsnats_driver_yepkit.Ykush is Ykush
    with pytest.raises(AttributeError, match="has no attribute 'Hub'"):
        _ = jsnats_driver_yepkit.Hub
    code = "import sys, jsnats_driver_yepkit; sys.exit('usb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not SERIAL, reason="needs a YKUSH: JSNATS_TEST_YKUSH is its serial number or USB port")
def test_a_real_hub_switches():
    """Port 1 off, on and off again, as the hub itself says."""
    driver = Ykush(serial=SERIAL, port="1")
    for switch, on in ((driver.off, False), (driver.on, True), (driver.off, False)):
        switch()
        assert driver.is_on() is on
