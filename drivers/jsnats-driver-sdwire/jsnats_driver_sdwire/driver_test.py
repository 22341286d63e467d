import asyncio
import errno
import gzip
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import jsnats_driver_sdwire
from jsnats.agent import load
from jsnats.driver import progress_sink
from jsnats_driver_sdwire import card
from jsnats_driver_sdwire.driver import SDWire
from jsnats_driver_sdwire.testing import Bench, FakeFt200x, FakeReader, loop_device

MIB = 1 << 20


@pytest.fixture
def bench(tmp_path):
    """An SDWire with a card at the host."""
    with Bench(tmp_path).attached() as bench:
        yield bench


def sdwire(**config: Any) -> SDWire:
    """The driver, not more patient than a test."""
    return SDWire(**({"storage_leeway": 0, "storage_timeout": 30} | config))


def image(folder: Path, size: int = MIB, name: str = "image") -> str:
    """A file with so many random bytes."""
    (folder / name).write_bytes(os.urandom(size))
    return str(folder / name)


def taken(handle: str) -> bytes:
    """The content of what a driver has read without an agent, which is removed."""
    data = Path(handle).read_bytes()
    Path(handle).unlink()
    return data


# ------------------------------------------------------------------ the switch


def test_an_sdwire_gets_the_requests_of_sd_mux_ctrl(bench):
    """SET_BITMODE with mode CBUS, all pins outputs and CBUS0 high for the host, low for the device; READ_PINS."""
    driver = sdwire()
    driver.dut()
    assert (bench.device.at, driver.query()) == ("dut", "dut")
    driver.host()
    assert (bench.device.at, driver.query()) == ("host", "host")
    to_dut, to_host, read = (0x40, 0x0B, 0x20F0, 0), (0x40, 0x0B, 0x20F1, 0), (0xC0, 0x0C, 0, 0)
    assert bench.device.transfers == [to_dut, read, read, to_host, read, read]
    assert bench.bus.open == []


def test_off_and_the_end_of_a_lease_are_at_the_host(bench):
    """There is no third position, and at the device the card would be booted from."""
    driver = sdwire()
    for method in (driver.off, driver.close, driver.close):
        driver.dut()
        method()
        assert driver.query() == "host"


def test_a_switch_that_does_not_switch_is_an_error(tmp_path):
    """An FT200X whose EEPROM has something else on CBUS0 takes the request and does nothing."""
    device = FakeFt200x(vendor=0x0403, product_id=0x6015, product="FT200X", gpio=False)
    with Bench(tmp_path, device).attached(), pytest.raises(OSError, match="card is at host; CBUS0 .* be a GPIO"):
        sdwire(serial="sdw-1").dut()


def test_an_sdwire3_is_switched_by_its_driver_and_a_reset(tmp_path):
    """Asking for where it is already does nothing: a reset would take the card from who uses it."""
    with Bench(tmp_path, FakeReader()).attached() as bench:
        driver = sdwire(serial=bench.device.serial)
        driver.host()
        assert bench.device.told == []
        driver.dut()
        driver.dut()
        assert (bench.device.at, driver.query(), bench.device.told) == ("dut", "dut", ["detach", "reset"])
        driver.host()
        assert (bench.device.at, driver.query()) == ("host", "host")
        assert bench.device.told == ["detach", "reset", "attach", "reset"]
        assert bench.bus.open == []


def test_one_that_is_plugged_in_again_is_found_again(bench):
    """At another address, and nothing has to be started anew."""
    driver = sdwire()
    bench.device.plugged = False
    with pytest.raises(ConnectionError, match="the SDWire is not plugged in"):
        driver.host()
    bench.bus.devices.append(FakeFt200x())
    driver.host()


# ------------------------------------------------------------------ the card


async def test_a_card_is_written_and_compared(bench, tmp_path):
    """Progress is in bytes and has three parts; what is there is what was given, decompressed."""
    data = os.urandom(3 * MIB)
    (tmp_path / "image.gz").write_bytes(gzip.compress(data, 1))
    said: list[tuple[str, float, float | None]] = []
    token = progress_sink.set(lambda done, total, message: said.append((message, done, total)))
    await sdwire().write(str(tmp_path / "image.gz"))
    progress_sink.reset(token)
    assert bench.disk.read_bytes() == data
    assert list(dict.fromkeys(each[0] for each in said)) == ["writing", "waiting for the medium", "comparing"]
    assert said[-1] == ("comparing", len(data), len(data))
    written = [done for message, done, _ in said if message == "writing"]
    assert written == sorted(written)
    assert 0 < written[0] <= written[-1] <= len(data)


async def test_a_card_is_read(bench):
    """All of it, with its size as the total of the progress."""
    bench.disk.write_bytes(data := os.urandom(2 * MIB + 5))
    said: list[tuple[float, float | None]] = []
    token = progress_sink.set(lambda done, total, message: said.append((done, total)))
    handle = await sdwire().read()
    progress_sink.reset(token)
    assert taken(handle) == data
    assert said[-1] == (len(data), len(data))


async def test_a_card_in_the_device_is_not_touched(bench, tmp_path):
    """Neither written nor read."""
    before = bench.disk.read_bytes()
    driver = sdwire()
    driver.dut()
    for call in (driver.write(image(tmp_path)), driver.read()):
        with pytest.raises(OSError, match="the card is attached to dut: attach it to the host first"):
            await call
    assert bench.disk.read_bytes() == before


async def test_a_card_that_is_used_stays_where_it_is(bench, tmp_path, monkeypatch):
    """Not switched to the device, not written twice at once; a cancel gives it free."""
    begun, go_on = threading.Event(), threading.Event()
    write = os.write

    def slow(descriptor: int, data: Any) -> int:
        if len(data) == MIB:
            begun.set()
            assert go_on.wait(30)
        return write(descriptor, data)

    monkeypatch.setattr("jsnats_driver_opendal.medium.os.write", slow)
    driver = sdwire()
    writing = asyncio.create_task(driver.write(image(tmp_path)))
    await asyncio.to_thread(begun.wait, 30)
    with pytest.raises(OSError, match="being written: cancel that first"):
        driver.dut()
    with pytest.raises(OSError, match="being written already"):
        await driver.write(image(tmp_path, 10, "other"))
    writing.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    driver.dut()


async def test_a_card_is_waited_for(bench, tmp_path):
    """A reader needs seconds until its disk is there, and then until it has seen the card."""
    bench.pull("sdz")
    bench.disk.write_bytes(b"")
    looked: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    look = card._look

    def watched(*args: Any) -> Any:
        loop.call_soon_threadsafe(looked.put_nowait, None)
        return look(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card, "_look", watched)
        writing = asyncio.create_task(sdwire().write(image(tmp_path)))
        for appear in (partial(bench.plug, "sdz", bench.hub / "again"), partial(bench.disk.write_bytes, bytes(10))):
            await asyncio.wait_for(looked.get(), 30)
            assert not writing.done()
            appear()
        await writing
    assert bench.disk.read_bytes() == (tmp_path / "image").read_bytes()


@pytest.mark.parametrize(
    ("spoil", "kind", "told"),
    [
        (lambda bench: bench.pull("sdz"), TimeoutError, "the disk of the SDWire's reader did not appear within 0.3 s"),
        (lambda bench: bench.disk.unlink(), TimeoutError, "sdz did not appear within 0.3 s"),
        (lambda bench: bench.disk.write_bytes(b""), FileNotFoundError, "has no card in it: its size is still 0"),
        (lambda bench: bench.plug("sdy", bench.hub), ValueError, r"several disks .*\(sdy, sdz\)"),
    ],
)
async def test_a_card_that_is_not_there_is_told(bench, tmp_path, spoil, kind, told):
    """No reader, no node in /dev, no medium, no way to tell which disk: each in its words, and nothing is written."""
    spoil(bench)
    with pytest.raises(kind, match=told):
        await sdwire(storage_timeout=0.3).write(image(tmp_path))


async def test_only_the_cards_disk_is_taken(bench, tmp_path):
    """Not a partition of it, not a disk elsewhere; one that cannot be taken out is no card reader."""
    bench.plug("sdz1", bench.hub, partition=True)
    bench.plug("sda", bench.sys / "devices/usb1/1-9")
    await sdwire().write(image(tmp_path))
    bench.pull("sdz")
    bench.plug("sdb", bench.hub, removable=False)
    with pytest.raises(ValueError, match="sdb beside the SDWire's switch is no card reader"):
        await sdwire().write(image(tmp_path))


async def test_a_disk_beside_a_switch_without_a_hub_is_not_taken(tmp_path):
    """At a port of the host itself, any disk is a neighbour; storage_device says which it is."""
    with Bench(tmp_path, FakeFt200x(ports=(1,))).attached() as bench:
        with pytest.raises(ValueError, match="say its disk by storage_device"):
            await sdwire().write(image(tmp_path))
        await sdwire(storage_device=bench.disk).write(image(tmp_path))
        assert bench.disk.read_bytes() == (tmp_path / "image").read_bytes()


async def test_an_sdwire3_has_its_disk_itself(tmp_path):
    """Its neighbours are no cards."""
    with Bench(tmp_path, FakeReader()).attached() as bench:
        bench.plug("sda", bench.hub.parent)
        await sdwire(serial="1-3").write(image(tmp_path))
        assert bench.disk.read_bytes() == (tmp_path / "image").read_bytes()


async def test_an_sdwire_that_is_pulled_out_is_a_connection_error(bench, tmp_path):
    """Its place in sysfs is gone, though libusb still lists it."""
    (bench.sys / "bus/usb/devices/1-1.2").unlink()
    with pytest.raises(ConnectionError, match="1-1.2: the SDWire was unplugged"):
        await sdwire().write(image(tmp_path))


async def test_a_card_the_exporter_may_not_write_is_told(bench, tmp_path, monkeypatch):
    """With what to do; root may everything, so the system call is made to fail."""
    really = os.open

    def denied(path: Any, flags: int, *args: Any) -> int:
        if path == bench.disk and flags & os.O_WRONLY:
            raise PermissionError(errno.EACCES, "Permission denied")
        return really(path, flags, *args)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(PermissionError, match="sdz: the exporter's user may not do that: give it the device's group"):
        await sdwire().write(image(tmp_path))


async def test_a_card_that_does_not_take_it_in_time_is_told(bench, tmp_path, monkeypatch):
    """Where syncing hangs."""
    go_on = threading.Event()
    monkeypatch.setattr("jsnats_driver_opendal.medium.os.fsync", lambda descriptor: go_on.wait(30))
    with pytest.raises(TimeoutError, match=r"sdz did not take within 0.2 s what was written"):
        await sdwire(storage_fsync_timeout=0.2).write(image(tmp_path))
    go_on.set()


async def test_a_card_that_lies_is_found_out(bench, tmp_path, monkeypatch):
    """What it gives back is compared, byte for byte by digest; and a card that has lost its end."""
    for spoilt in (lambda data: b"X" + data[1:], lambda data: data[:-1]):
        monkeypatch.setattr(
            "jsnats_driver_opendal.medium.os.fsync",
            lambda descriptor, spoilt=spoilt: bench.disk.write_bytes(spoilt(bench.disk.read_bytes())),
        )
        with pytest.raises(OSError, match="sdz does not give back what was written"):
            await sdwire().write(image(tmp_path))


# ------------------------------------------------------------------ a block device


@pytest.fixture
def backing(tmp_path):
    """The file of 8 MiB behind the loop device."""
    path = tmp_path / "backing"
    path.write_bytes(bytes(8 * MIB))
    return path


@pytest.fixture
def loop(bench, backing):
    """The card is a real block device."""
    with ExitStack() as stack:
        try:
            device = stack.enter_context(loop_device(backing))
        except OSError as error:
            pytest.skip(f"needs a loop device: {error}")
        bench.disk.unlink()
        bench.disk.symlink_to(device)
        yield device


async def test_a_block_device_is_written_and_compared(loop, backing, tmp_path):
    """It keeps its size, and what is behind the image stays."""
    await sdwire().write(image(tmp_path, 3 * MIB + 7))
    assert backing.stat().st_size == 8 * MIB
    assert backing.read_bytes()[: 3 * MIB + 8] == (tmp_path / "image").read_bytes() + b"\0"
    assert sha256(taken(await sdwire().read())).digest() == sha256(backing.read_bytes()).digest()


async def test_a_comparison_reads_the_device_and_not_the_hosts_memory(loop, backing, tmp_path, monkeypatch):
    """Changed behind the device's back after the sync, as a worn out card does it; somebody else has it open, so that
    the kernel does not forget the device when the writer has closed it."""
    other = os.open(loop, os.O_RDONLY)
    fsync = os.fsync

    def spoil(descriptor: int) -> None:
        fsync(descriptor)
        with backing.open("r+b") as file:
            file.seek(MIB)
            file.write(b"worn out")

    monkeypatch.setattr("jsnats_driver_opendal.medium.os.fsync", spoil)
    try:
        with pytest.raises(OSError, match="does not give back what was written: it is worn out"):
            await sdwire().write(image(tmp_path, 3 * MIB))
    finally:
        os.close(other)


async def test_a_card_that_is_too_small_is_not_touched(loop, backing, tmp_path):
    """When the size of the image is known; of a compressed one it is told when the card is full."""
    with pytest.raises(OSError, match=f"the image has {9 * MIB} bytes, and .*sdz has room for {8 * MIB}"):
        await sdwire().write(image(tmp_path, 9 * MIB))
    assert backing.read_bytes() == bytes(8 * MIB)
    (tmp_path / "image.gz").write_bytes(gzip.compress(os.urandom(9 * MIB), 1))
    with pytest.raises(OSError, match="sdz at byte .*: No space left on device"):
        await sdwire().write(str(tmp_path / "image.gz"))


async def test_a_card_that_is_mounted_is_left_alone(loop, backing, tmp_path):
    """Not written, and not taken away from under the host's feet; the kernel holds it as a mount does."""
    held = os.open(loop, os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(OSError, match="sdz is mounted, or in use by another program"):
            await sdwire().write(image(tmp_path))
        with pytest.raises(OSError, match="sdz is mounted, or in use by another program: unmount it first"):
            sdwire().dut()
    finally:
        os.close(held)
    assert backing.read_bytes() == bytes(8 * MIB)
    sdwire().dut()


@pytest.fixture
def full(bench, tmp_path):
    """A device whose blocks cannot all be written: the file behind it is in a file system without room."""
    (folder := tmp_path / "small").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], check=False).returncode:
        pytest.skip("needs a tmpfs, which root may mount")
    try:
        with (folder / "backing").open("wb") as file:
            file.truncate(8 * MIB)
        try:
            with loop_device(folder / "backing") as device:
                bench.disk.unlink()
                bench.disk.symlink_to(device)
                yield device
        except OSError as error:
            pytest.skip(f"needs a loop device: {error}")
    finally:
        subprocess.run(["umount", folder], check=True)


async def test_a_card_that_fails_half_way_is_told(full, tmp_path):
    """It is no success, and the card does not go to the device."""
    with pytest.raises(OSError, match="sdz failed or was unplugged|did not take what was written: Input/output error"):
        await sdwire().flash(image(tmp_path, 6 * MIB))
    assert sdwire().query() == "host"


# ------------------------------------------------------------------ configuration and package


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"serial": ""}, "serial"),
        ({"storage_device": "sdb"}, "sdb is no path of a disk"),
        ({"storage_timeout": 0}, "storage_timeout"),
        ({"storage_leeway": -1}, "storage_leeway"),
        ({"storage_fsync_timeout": float("inf")}, "storage_fsync_timeout"),
        ({"port": 1}, "port"),
    ],
)
def test_a_wrong_parameter_is_refused(config, told):
    """When the file is read, by its name."""
    with pytest.raises(ValidationError, match=told):
        SDWire(**config)


def test_the_example_is_a_valid_exporter():
    """examples/exporter.yaml gives two cards, with the parameters it says; no SDWire has to be there for that."""
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    first, second = exporter.root.children.values()
    assert isinstance(first, SDWire)
    assert isinstance(second, SDWire)
    assert (first.serial, first.storage_timeout, first.storage_leeway) == ("sdw-7", 10, 6)
    assert (second.serial, second.storage_timeout, second.storage_leeway) == ("1-1.4", 20, 0)


def test_the_package_offers_the_driver_lazily():
    """`from jsnats_driver_sdwire import SDWire` works, and a name that is not there is an AttributeError."""
    assert jsnats_driver_sdwire.SDWire is SDWire
    with pytest.raises(AttributeError, match="has no attribute 'Floppy'"):
        _ = jsnats_driver_sdwire.Floppy


def test_a_client_loads_no_usb():
    """Nor the driver, nor OpenDAL."""
    code = (
        "import sys, jsnats_driver_sdwire.client as c;"
        "sys.exit(bool({'usb', 'opendal', 'jsnats.driver', c.__package__ + '.driver'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
