import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.streams.stapled import StapledObjectStream
from pydantic import ValidationError

from jsnats.agent import load
from jsnats.driver import Composite, Driver, exportstream
from jsnats.testing import until_async
from jsnats_driver_network.driver import EchoNetwork, UnixNetwork
from jsnats_driver_power.driver import MockPower
from jsnats_driver_uboot.common import CommandResult, UbootCommandError
from jsnats_driver_uboot.driver import UbootConsole
from jsnats_driver_uboot.env import assignment, variables
from jsnats_driver_uboot.link import Link
from jsnats_driver_uboot.testing import QemuPower, missing

REAL = pytest.mark.skipif(bool(missing("x86")), reason=missing("x86"))


# ------------------------------------------------------------------ configuration


def test_the_example_loads():
    """examples/exporter.yaml is a board with all three drivers; the console is that of the exporter."""
    (spec,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    uboot = spec.root.children["uboot"]
    assert isinstance(uboot, UbootConsole)
    assert uboot.children["serial"] is spec.root.children["serial"]


def test_children_are_needed():
    """A child that is missing, or cannot do what is needed, is refused by name where the driver is made."""
    cases: list[tuple[dict[str, Driver], str]] = [
        ({"power": MockPower()}, "needs a child serial"),
        ({"serial": EchoNetwork()}, "needs a child power"),
        ({"power": MockPower(), "serial": MockPower()}, r"child serial of UbootConsole is a MockPower.* lacks connect"),
        ({"power": Composite(), "serial": EchoNetwork()}, r"lacks on\(\)"),
    ]
    for children, told in cases:
        with pytest.raises(ValidationError, match=told):
            UbootConsole(children=children)


def test_parameters_are_checked():
    """An empty prompt, a prompt of several lines, no key, and a time below 0 are refused."""
    for bad in ({"prompt": "\n "}, {"prompt": "a\nb"}, {"autoboot_key": ""}, {"off_time": -1}, {"propmt": "=> "}):
        with pytest.raises(ValidationError):
            UbootConsole(children={"power": MockPower(), "serial": EchoNetwork()}, **bad)


# ------------------------------------------------------------------ the environment


def test_assignments():
    """A value is one word in single quotes, in which a backslash and a quote are written in U-Boot's way."""
    assert assignment("a", "b c") == "setenv a 'b c'"
    assert assignment("a", r"it's \n") == r"setenv a 'it'\''s \\n'"
    assert assignment("a", None) == "setenv a"
    for name in ("", "a b", "a=b", "-f", "a;reset", "a$b", "a\n"):
        with pytest.raises(ValueError, match="no name of a variable"):
            assignment(name, "1")


def test_what_printenv_says():
    """Values may have `=`, be empty, or go over several lines; the size at the end is none of them."""
    said = "a=1=2\nempty=\nscript=if x; then\n  echo y\nfi\nlast=z\n\nEnvironment size: 42/262140 bytes"
    assert variables(said) == {"a": "1=2", "empty": "", "script": "if x; then\n  echo y\nfi", "last": "z"}


def test_an_error_is_one_line():
    """UbootCommandError shows the last line, and the beginning of a long command."""
    error = UbootCommandError.of(CommandResult(command="x" * 500, status=1, output="one\ntwo\n"))
    assert str(error) == f"'{'x' * 77}...' ended with 1: two"
    assert error.result.status == 1


# ------------------------------------------------------------------ bad consoles


class Flawed(Driver):
    """A console on the way to another one, which does to what goes by what a test says."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.there: Any = None
        self.up: Callable[[bytes], bytes] = bytes
        self.down: Callable[[bytes], bytes] = bytes

    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DriverClient"

    @exportstream
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Any, None]:
        """Connect to it."""
        async with self.there.connect() as stream:
            yield _Between(stream, self)


class _Between:
    def __init__(self, stream: Any, flaw: Flawed) -> None:
        self.stream, self.flaw = stream, flaw

    async def send(self, data: bytes) -> None:
        await self.stream.send(self.flaw.up(data))

    async def receive(self) -> bytes:
        return self.flaw.down(await self.stream.receive(1))


@asynccontextmanager
async def board(folder: Path, **flaws: Callable[[bytes], bytes]) -> AsyncGenerator[UbootConsole, None]:
    """U-Boot at its prompt, behind a console that becomes bad then."""
    power = QemuPower(arch="x86", console=str(folder / "console"))
    serial = Flawed()
    serial.there = UnixNetwork(path=power.console)
    try:
        uboot = UbootConsole(off_time=0, children={"power": power, "serial": serial})
        await uboot.reboot()
        vars(serial).update(flaws)
        yield uboot
    finally:
        await power.stop()


@REAL
async def test_a_console_that_loses_what_comes_fast(tmp_path):
    """What is lost of a burst is seen in the echo, and typed again one by one; nothing wrong is run."""
    async with board(tmp_path, up=lambda data: data[:3] + data[4:]) as uboot:
        result = await uboot.run("echo 0123456789 abcdefghij")
        assert (result.output, result.status) == ("0123456789 abcdefghij", 0)
        await uboot.set_env({"x": "a b c d e f g"})
        assert await uboot.get_env("x") == "a b c d e f g"


@REAL
async def test_a_console_with_noise(tmp_path):
    """Characters that nobody typed make the line be typed again."""
    noise = iter([b"\xff\x00~"])
    async with board(tmp_path, down=lambda data: data + next(noise, b"") if data == b"5" else data) as uboot:
        assert (await uboot.run("echo 456")).output == "456"


@REAL
async def test_a_console_that_does_not_echo(tmp_path):
    """What never comes back is not run: OSError says what was typed."""
    async with board(tmp_path, up=lambda data: data.replace(b"o", b"0")) as uboot:
        with pytest.raises(OSError, match="does not give back what is typed, 'echo a"):
            await uboot.run("echo a")


@REAL
async def test_what_is_cut_short_leaves_a_prompt(tmp_path):
    """A command whose task is cancelled, or whose time is over, has been ended: the prompt takes keys."""
    heard = bytearray()

    def hear(data: bytes) -> bytes:
        heard.extend(data)
        return data

    async with board(tmp_path, up=hear) as uboot:
        for begun in (b"", b"sleep 1000"):
            running = asyncio.create_task(uboot.run("sleep 1000", timeout=900))
            await until_async(lambda: uboot._sessions.turn.locked() and begun in heard)  # noqa: B023 - called here only
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            heard.clear()
            await _takes_keys(uboot)
        with pytest.raises(TimeoutError, match="has not ended after 0.5 s"):
            await uboot.run("sleep 1000", timeout=0.5)
        await _takes_keys(uboot)


async def _takes_keys(uboot: UbootConsole) -> None:
    async with asyncio.timeout(30), Link.attach(uboot.children["serial"], uboot.report_progress) as link:
        await link.send(b"#")
        await link.until(lambda: b"#" in link.said)


# ------------------------------------------------------------------ a U-Boot that nobody here has


class SimpleShell(Driver):
    """U-Boot without the hush shell: `;` between commands, and no `$?`."""

    @classmethod
    def client(cls) -> str:
        return "jsnats.client.DriverClient"

    @exportstream
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Any, None]:
        """Be at the prompt."""
        to_us, from_them = anyio.create_memory_object_stream[bytes](100)
        to_them, from_us = anyio.create_memory_object_stream[bytes](100)
        async with from_them, to_them, StapledObjectStream(to_us, from_us) as stream:
            serving = asyncio.create_task(self._serve(from_them, to_them))
            try:
                yield stream
            finally:
                serving.cancel()
                await asyncio.wait({serving})

    async def _serve(self, keys: Any, out: Any) -> None:
        line = b""
        async for data in keys:
            if data == b"\x03":
                line = b""
                await out.send(b"<INTERRUPT>\r\n=> ")
            elif data == b"\r":
                said = [each.strip()[5:] + b"\r\n" for each in line.split(b";") if each.strip().startswith(b"echo ")]
                line = b""
                await out.send(b"\r\n" + b"".join(said) + b"=> ")
            else:
                line += data
                await out.send(data)


async def test_without_hush_there_is_no_status():
    """run() says None for the status, and to check it is NotImplementedError."""
    uboot = UbootConsole(children={"power": MockPower(), "serial": SimpleShell()})
    assert await uboot.run("echo a; nosuch") == CommandResult(command="echo a; nosuch", status=None, output="a")
    with pytest.raises(NotImplementedError, match="hush"):
        await uboot.run("echo a", check=True)
    with pytest.raises(NotImplementedError, match="hush"):
        await uboot.set_env({"x": "1"})


async def test_another_prompt_is_not_taken_for_it():
    """A wrong prompt in the configuration is a TimeoutError that shows the right one."""
    children: dict[str, Driver] = {"power": MockPower(), "serial": SimpleShell()}
    uboot = UbootConsole(children=children, prompt="STM32MP> ", off_time=0)
    with pytest.raises(TimeoutError, match="no 'STM32MP> ' 1 s after power-on; .*=>.*; are prompt and"):
        await uboot.reboot(timeout=1)
    with pytest.raises(TimeoutError, match="no 'STM32MP> ' to type at: reboot"):
        await uboot.run("echo a", timeout=0.5)
