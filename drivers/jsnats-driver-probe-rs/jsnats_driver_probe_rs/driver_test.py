import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import jsnats_driver_probe_rs
from jsnats.agent import load
from jsnats.testing import until

from .driver import ProbeRs
from .testing import Bench, elf, firmware, intel_hex


@pytest.fixture
def bench(tmp_path):
    """A stand-in for probe-rs, and its target."""
    return Bench(tmp_path)


def probe(bench: Bench, **config: Any) -> ProbeRs:
    """The driver of it."""
    return ProbeRs(probe_rs_path=str(bench.program), **config)


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ({}, []),
        (
            {"probe": "1366:0101", "chip": "LM3S6965", "protocol": "SWD", "speed": 4000, "connect_under_reset": True},
            ["--probe=1366:0101", "--chip=LM3S6965", "--protocol=swd", "--speed=4000", "--connect-under-reset"],
        ),
    ],
)
async def test_each_parameter_is_an_option_of_each_command(bench, config, options):
    """What is not said is left to probe-rs."""
    driver = probe(bench, **config)
    await driver.info()
    await driver.reset_target()
    await driver.erase()
    await driver.read(8, 16, 2)
    assert [each["arguments"] for each in bench.calls()] == [
        ["info", *options],
        ["reset", *options],
        ["erase", *options],
        ["read", *options, "b8", "0x10", "2"],
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"probe": "J-Link"},
        {"probe_rs_path": ""},
        {"chip": ""},
        {"protocol": "spi"},
        {"speed": 0},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"port": 1337},
    ],
)
def test_a_wrong_configuration_is_refused(wrong):
    """By the name of the parameter."""
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ProbeRs(**wrong)


def test_a_probe_that_is_none_is_told_what_one_looks_like():
    """Many paste what they see on its case."""
    with pytest.raises(ValidationError, match="'J-Link' is no probe: give VID:PID or VID:PID:SERIAL"):
        ProbeRs(probe="J-Link")


async def test_images_of_each_format_are_written_and_verified(bench, tmp_path):
    """Raw binaries to the begin of the flash or to an address, Intel HEX and ELF to their own."""
    driver, image, data = probe(bench), tmp_path / "image", firmware()
    for content, address, options in (
        (data, 0, {}),
        (data, 0x200, {"base_address": 0x200}),
        (intel_hex(data, 0x400), 0x400, {}),
        (elf(data, 0x600), 0x600, {}),
        (elf(data), 0x800, {"binary_format": "bin", "base_address": 0x800}),
    ):
        image.write_bytes(content)
        await driver.download(str(image), **options)
        written = content if options.get("binary_format") else data
        assert bench.flash()[address : address + len(written)] == written
    assert all("--verify" in each["arguments"] for each in bench.calls())


async def test_an_address_is_for_raw_binaries(bench, tmp_path):
    """Other formats have their own, and probe-rs would ignore ours without a word."""
    image = tmp_path / "image"
    image.write_bytes(elf(firmware()))
    with pytest.raises(ValueError, match="elf has its addresses: leave base_address out"):
        await probe(bench).download(str(image), base_address=0)
    assert bench.calls() == []


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        ("no probe", ConnectionError, r"\(exit code 1\): Error: No connected probes were found\.$"),
        ("several probes", ConnectionError, r"2 probes were found: 1\. J-Link -- 1366:0101:1 \(J-Link\) 2\. Debug"),
        ("no target", ConnectionError, r"unsuccessful\. Caused by: 0: An ARM specific error occurred\. 1: No ack"),
        ("bad flash", OSError, r"Caused by: Verification failed: contents do not match$"),
    ],
)
async def test_a_failure_is_an_error_with_probe_rs_own_words(bench, tmp_path, fault, kind, told):
    """Never an empty answer: exit code and reason, in one line."""
    image = tmp_path / "image"
    image.write_bytes(firmware())
    bench.break_by(fault)
    with pytest.raises(kind, match=told) as raised:
        await probe(bench).download(str(image))
    assert type(raised.value) is kind
    assert "\n" not in str(raised.value)


async def test_info_without_a_target_is_an_error(bench):
    """Although probe-rs ends with exit code 0 then."""
    bench.break_by("no target")
    with pytest.raises(ConnectionError, match="info found no target: .* No acknowledge"):
        await probe(bench).info()


async def test_options_that_probe_rs_does_not_know(bench):
    """Exit code 2 and its text come through: a chip that is not in its list, and a command line of another version."""
    with pytest.raises(OSError, match=r"exit code 1\): Error: The chip 'Z80' was not found in the database"):
        await probe(bench, chip="Z80").reset_target()
    bench.program.write_text("#!/bin/sh\necho \"error: unexpected argument '--verify' found\" >&2\nexit 2\n")
    with pytest.raises(OSError, match=r"exit code 2\): error: unexpected argument '--verify' found"):
        await probe(bench).reset_target()


async def test_memory_is_read_in_words_of_each_width(bench, tmp_path):
    """Little-endian as the target has them, more than a line of them."""
    driver, image = probe(bench), tmp_path / "image"
    image.write_bytes(bytes(range(1, 121)))
    await driver.download(str(image))
    assert await driver.read(8, 0, 4) == [1, 2, 3, 4]
    assert await driver.read(16, 2, 2) == [0x0403, 0x0605]
    assert await driver.read(64, 8, 1) == [0x100F0E0D0C0B0A09]
    assert (await driver.read(32, 0, 30))[-1] == 0x78777675
    with pytest.raises(OSError, match="not aligned to 4 bytes"):
        await driver.read(32, 2, 1)


async def test_a_read_that_gives_too_little_is_an_error(bench):
    """Output that is not understood is never taken for the answer."""
    bench.program.write_text("#!/bin/sh\necho 20000000: 00000001\n")
    with pytest.raises(OSError, match="gave 1 words of 2"):
        await probe(bench).read(32, 0x2000_0000, 2)


async def test_no_probe_rs(tmp_path):
    """One line that says what to do."""
    with pytest.raises(FileNotFoundError, match="install probe-rs, or correct probe_rs_path"):
        await ProbeRs(probe_rs_path=str(tmp_path / "no")).reset_target()


async def test_a_command_that_hangs_is_killed_after_its_time(bench):
    """TimeoutError, and the process is gone."""
    bench.break_by("hangs")
    with pytest.raises(TimeoutError, match="probe-rs erase did not end within 0.5 s and was killed"):
        await probe(bench, timeout=0.5).erase()
    assert not bench.is_running()


async def test_a_cancelled_command_is_killed(bench):
    """It is gone when the cancellation is through, and the next command is served."""
    driver = probe(bench)
    bench.break_by("hangs")
    call = asyncio.create_task(driver.erase())
    await asyncio.to_thread(until, bench.calls)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not bench.is_running()
    bench.break_by("")
    await driver.reset_target()


def test_the_example_is_a_valid_exporter():
    """examples/exporter.yaml is the board of the README."""
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    driver = exporter.root.children["probe"]
    assert isinstance(driver, ProbeRs)
    assert (driver.chip, driver.protocol, driver.speed) == ("RP235x", "swd", 4000)


def test_the_package_offers_the_driver_lazily():
    """`from jsnats_driver_probe_rs import ProbeRs` works, and its client loads nothing of the exporter's side."""
    assert jsnats_driver_probe_rs.ProbeRs is ProbeRs
    with pytest.raises(AttributeError, match="has no attribute 'OpenOcd'"):
        _ = jsnats_driver_probe_rs.OpenOcd
    code = "import sys, jsnats_driver_probe_rs.client; sys.exit('jsnats.driver' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
