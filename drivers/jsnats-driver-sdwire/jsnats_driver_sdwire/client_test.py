import json
import os
from typing import Any

import pytest
from click.testing import CliRunner

from jsnats.client import DriverClient
from jsnats.common.exceptions import DriverConnectionError, DriverOSError
from jsnats.common.utils import serve
from jsnats_driver_sdwire.client import SDWireClient
from jsnats_driver_sdwire.driver import SDWire
from jsnats_driver_sdwire.testing import Bench

SERIAL, ERASE = os.environ.get("JSNATS_TEST_SDWIRE"), os.environ.get("JSNATS_TEST_SDWIRE_ERASE")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def bench(tmp_path):
    """An SDWire with a card at the host."""
    with Bench(tmp_path / "bench").attached() as bench:
        yield bench


@pytest.fixture
def client(bench):
    """The client of it, over a broker."""
    with serve(SDWire(storage_leeway=0, storage_timeout=30)) as client:
        assert isinstance(client, SDWireClient)
        yield client


def run(client: DriverClient, *words: str) -> str:
    """Invoke the client's commands; return what was printed."""
    result = CliRunner().invoke(client.cli(), words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_card_is_flashed_and_dumped(client, bench, tmp_path):
    """It ends at the device, and what comes back is what was flashed."""
    data = os.urandom(2_000_000)
    client.flash(data)
    assert (client.query(), bench.device.at, bench.disk.read_bytes()) == ("dut", "dut", data)
    client.dump(tmp_path / "out")
    assert (client.query(), (tmp_path / "out").read_bytes()) == ("dut", data)


def test_the_same_image_is_uploaded_once(client, bench, tmp_path):
    """And written each time, whatever the device has done to the card."""
    (tmp_path / "image").write_bytes(data := os.urandom(1_000_000))
    client.flash(tmp_path / "image")
    bench.disk.write_bytes(b"the board's own")
    told: list[dict[str, Any]] = []
    client.options(on_progress=told.append).flash(tmp_path / "image")
    assert {each["done"] for each in told if each["message"] == "uploading image"} == {len(data)}
    assert bench.disk.read_bytes() == data


def test_a_card_is_written_step_by_step(client, bench, tmp_path):
    """host, write, read, dut; and at the end of the exporter the card is at the host."""
    (tmp_path / "image").write_bytes(b"image")
    client.dut()
    with pytest.raises(DriverOSError, match="attached to dut: attach it to the host first"):
        client.write_local_file(tmp_path / "image")
    client.host()
    client.write_local_file(tmp_path / "image")
    client.read_local_file(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"image"
    client.off()
    assert client.query() == "host"


def test_the_end_of_a_lease_takes_the_card_from_the_device(bench):
    """Whatever was done before."""
    with serve(SDWire(storage_leeway=0)) as client:
        client.dut()
        assert bench.device.at == "dut"
    assert bench.device.at == "host"


def test_a_flash_that_fails_says_why(client, bench):
    """Also when the card cannot be taken from the device afterwards, because the SDWire is gone."""
    bench.device.plugged = False
    with pytest.raises(DriverConnectionError, match="the SDWire is not plugged in"):
        client.flash(b"image")
    bench.device.plugged = True
    client.host()
    bench.disk.write_bytes(b"")
    bench.bus.devices[0].serial = "sdw-1"
    with serve(SDWire(storage_timeout=0.2)) as hasty, pytest.raises(DriverOSError, match="has no card in it"):
        hasty.flash(b"image")
    assert client.query() == "host"


def test_commands(client, bench, tmp_path):
    """`j card flash`, `dump`, `host`, `dut`, `off`, `write` and `state` do what the methods do."""
    (tmp_path / "image").write_bytes(b"image")
    run(client, "flash", str(tmp_path / "image"))
    assert run(client, "state") == "dut\n"
    assert json.loads(run(client, "state", "--json")) == "dut"
    run(client, "dump", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b"image"
    run(client, "host")
    run(client, "write", str(tmp_path / "image"))
    run(client, "off")
    assert run(client, "state") == "host\n"
    run(client, "dut")
    assert run(client, "state") == "dut\n"


@pytest.mark.skipif(not SERIAL, reason="needs an SDWire: JSNATS_TEST_SDWIRE is its serial number or port")
def test_a_real_sdwire_switches(tmp_path):
    """To the device and back; with JSNATS_TEST_SDWIRE_ERASE=1 the first 8 MiB of the card are written as well."""
    with serve(SDWire(serial=SERIAL, storage_timeout=30)) as client:
        client.host()
        assert client.query() == "host"
        if ERASE:
            client.flash(os.urandom(8 << 20))
        client.dut()
        assert client.query() == "dut"
