import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings, strategies as st

from jsnats.common.exceptions import (
    DeadlineExceeded,
    DriverConnectionError,
    DriverError,
    DriverOSError,
    DriverTimeout,
    DriverValueError,
)
from jsnats.common.utils import serve
from jsnats.testing import until
from jsnats_driver_network.driver import UnixNetwork
from jsnats_driver_pyserial.driver import PySerial
from jsnats_driver_uboot import link
from jsnats_driver_uboot.client import UbootConsoleClient
from jsnats_driver_uboot.common import DhcpInfo, UbootCommandError
from jsnats_driver_uboot.driver import UbootConsole
from jsnats_driver_uboot.testing import QemuPower, missing, write_environment

pytestmark = pytest.mark.skipif(bool(missing("arm64") or missing("x86")), reason=missing("arm64") or missing("x86"))


def on_a_pty(**more: Any) -> UbootConsole:
    """An arm64 board on a serial adapter, which is there when the board is off."""
    power = QemuPower(arch="arm64")
    return UbootConsole(off_time=0, children={"power": power, "serial": PySerial(url=power.port)}, **more)


def on_a_socket(folder: Any, **more: Any) -> UbootConsole:
    """An x86 board on a socket, which is there when the board is on."""
    power = QemuPower(arch="x86", console=str(folder / "console"))
    return UbootConsole(off_time=0, children={"power": power, "serial": UnixNetwork(path=power.console)}, **more)


@pytest.fixture(scope="module", params=["arm64", "x86"])
def uboot(request, tmp_path_factory):
    """Both of them, at the prompt."""
    driver = on_a_pty() if request.param == "arm64" else on_a_socket(tmp_path_factory.mktemp("board"))
    with serve(driver) as client, client.reboot_to_console() as uboot:
        yield uboot


ARM64, X86 = (pytest.mark.parametrize("uboot", [each], indirect=True) for each in ("arm64", "x86"))
"""For what does not depend on the architecture; the clock of the x86 board is too fast."""


@contextmanager
def pty_board(**more: Any) -> Iterator[tuple[UbootConsole, Any]]:
    """A board of a test's own, off."""
    driver = on_a_pty(**more)
    with serve(driver) as client:
        yield driver, client


def usable(uboot: Any) -> bool:
    """Whether a command runs."""
    return bool(uboot.run_command("echo still here", timeout=20) == b"still here")


# ------------------------------------------------------------------ to the prompt


def test_a_reboot_stops_the_autoboot(tmp_path):
    """reboot() returns what the board said up to the prompt, from its first line, and does it again."""
    with serve(on_a_socket(tmp_path)) as uboot:
        for _ in range(2):
            said = uboot.reboot()
            assert "Model: QEMU x86" in said
            assert "stop autoboot" in said
            assert said.rstrip().endswith("=>")
        assert uboot.power.is_on() is True


def test_the_console_keeps_what_happened():
    """A recorded console has the power-on, the boot and what was typed, for whoever watches."""
    with pty_board() as (_, uboot):
        assert uboot.reboot().startswith("\n\nU-Boot 20")
        uboot.run("version")
        uboot.serial.expect("Hit any key", since="boot", timeout=20)
        uboot.serial.expect(r"=> version; echo \w+:\$\?", timeout=20)
        uboot.serial.close()


def test_an_autoboot_without_delay_is_stopped(tmp_path):
    """With bootdelay 0 U-Boot looks for a key once, and finds that it was pressed before."""
    with pty_board() as (driver, uboot):
        write_environment(tmp_path / "flash", bootdelay="0", bootcmd="echo too late", own="kept")
        driver.children["power"].flash = str(tmp_path / "flash")  # type: ignore[attr-defined]
        assert "too late" not in uboot.reboot()
        assert uboot.get_env("own") == "kept"


def test_an_autoboot_that_cannot_be_stopped_is_told(tmp_path):
    """With bootdelay -2 no key is looked for: TimeoutError with the last output, and with what may be wrong."""
    with pty_board(autoboot_key=" ") as (driver, uboot):
        write_environment(tmp_path / "flash", bootdelay="-2", bootcmd="echo booting; sleep 1000")
        driver.children["power"].flash = str(tmp_path / "flash")  # type: ignore[attr-defined]
        with pytest.raises(DriverTimeout, match=r"no '=> ' 4 s after power-on; .*said.*bootdelay"):
            uboot.reboot(timeout=4)


def test_a_power_switch_that_fails_is_told():
    """What the switch raises is what reboot() raises, at once."""
    with pty_board() as (driver, uboot):
        driver.children["power"].fault = ConnectionError("no route to the plug")  # type: ignore[attr-defined]
        with pytest.raises(DriverConnectionError, match="no route to the plug"):
            uboot.reboot()


# ------------------------------------------------------------------ commands


def test_a_command_has_output_and_status(uboot):
    """run() has both, run_command() the output as bytes, run_command_checked() its lines."""
    assert isinstance(uboot, UbootConsoleClient)
    assert uboot.prompt == "=> "
    assert uboot.run("echo a; echo b; false").model_dump() == {
        "command": "echo a; echo b; false",
        "status": 1,
        "output": "a\nb",
    }
    assert uboot.run_command("version").startswith(b"U-Boot 20")
    assert uboot.run_command_checked("echo 'a  b'; echo c") == ["a  b", "c"]
    assert uboot.run("  true ").output == ""


@X86
def test_a_failed_command_is_an_error_with_its_result(uboot):
    """run_command_checked() raises UbootCommandError, an OSError, which has status and output."""
    with pytest.raises(UbootCommandError, match=r"'printenv nosuch' ended with 1: ## Error: \"nosuch\"") as caught:
        uboot.run_command_checked("printenv nosuch")
    assert isinstance(caught.value, OSError)
    assert (caught.value.result.status, caught.value.path) == (1, "")
    assert "not defined" in caught.value.result.output


@ARM64
def test_a_prompt_in_the_output_is_output(uboot):
    """Neither a line like a prompt, nor one that stands for seconds where the prompt would be, ends a command."""
    assert uboot.run("echo '=> '; echo '=> x'").output == "=> \n=> x"
    assert uboot.run("echo -n '=> '; sleep 3; echo done").output == "=> done"
    assert usable(uboot)


@X86
def test_long_output_is_complete_or_refused(uboot, monkeypatch):
    """All lines of a memory dump are there; more than there is room for is an OSError, and ended."""
    lines = uboot.run_command_checked("md.b ${loadaddr} 0x2000")
    assert len(lines) == 0x200
    assert all(len(line) == len(lines[0]) for line in lines)
    monkeypatch.setattr(link, "LIMIT", 8 << 10)  # 1 MiB takes the emulated UART half a minute
    with pytest.raises(DriverOSError, match="said more than 8 KiB"):
        uboot.run("md.b ${loadaddr} 0x1000000")
    assert usable(uboot)


@X86
def test_a_line_that_is_not_whole_is_refused(uboot):
    """An open quote, a comment or a fault of syntax is ValueError after a second, and the prompt is back."""
    for command in ("echo 'a", "echo a # b", "if true"):
        with pytest.raises(DriverValueError, match="does not take .* as a whole line"):
            uboot.run(command)
    assert usable(uboot)


def test_a_line_that_is_too_long_is_refused(uboot):
    """It is not run in part: ValueError says how much there is room for."""
    with pytest.raises(DriverValueError, match=r"takes (511|512|\d{3,4}) characters, not 3\d\d\d"):
        uboot.run("echo " + "x" * 3000)
    assert usable(uboot)


@X86
def test_keys_are_no_text(uboot):
    """A control character is refused before anything is typed, and so is an empty line, which would repeat the last."""
    for command in ("echo a\necho b", "echo \x03", "print\t"):
        with pytest.raises(DriverValueError, match="printable"):
            uboot.run(command)
        with pytest.raises(DriverValueError, match="printable"):
            uboot.set_env("x", command)
    for call in (uboot.run, uboot.boot):
        with pytest.raises(DriverValueError, match="empty"):
            call("  ")


def test_a_command_that_takes_too_long_is_ended(uboot):
    """TimeoutError has the last output; Ctrl-C has ended the command, and the next one runs."""
    begin = time.monotonic()
    with pytest.raises(DriverTimeout, match="'echo begun; sleep 100' has not ended after 1 s; .*begun"):
        uboot.run("echo begun; sleep 100", timeout=1)
    assert usable(uboot)
    assert time.monotonic() - begin < 50


def test_a_caller_who_leaves_ends_the_command(uboot):
    """A cancelled call leaves a prompt: the next command does not wait for the first."""
    begin = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        uboot.options(timeout_s=1).run("sleep 100", timeout=90)
    assert usable(uboot)
    assert time.monotonic() - begin < 50


@ARM64
def test_two_callers_have_their_turns(uboot):
    """Commands given at once run one after the other, each with its own output."""
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda i: uboot.run_command(f"echo begin {i}; sleep 0.2; echo end {i}"), range(4)))
    assert results == [f"begin {i}\nend {i}".encode() for i in range(4)]


# ------------------------------------------------------------------ environment and network


def test_variables(uboot):
    """They are set, read, listed and removed; what is not there is None, and what U-Boot refuses UbootCommandError."""
    uboot.set_env_dict({"a_b": "1", "empty": "", "serverip": "10.0.2.2"})
    assert [uboot.get_env(each) for each in ("a_b", "empty", "serverip", "nosuch")] == ["1", "", "10.0.2.2", None]
    found = uboot.print_env()
    assert found["a_b"] == "1"
    assert found["baudrate"] == "115200"
    assert "${devtype}" in found["boot_a_script"]
    assert not [name for name in found if "size" in name.lower() and " " in name]
    uboot.set_env("a_b", None)
    assert uboot.get_env("a_b") is None
    with pytest.raises(UbootCommandError, match="baudrate"):
        uboot.set_env("baudrate", "17")
    with pytest.raises(DriverValueError, match="no name of a variable"):
        uboot.set_env("a b", "1")


_TYPED = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@example(value="")
@example(value="it's \"${x}\"; reset # \\ \\n '' ")
@given(value=st.text(_TYPED | st.sampled_from("'\"\\$;#&|*?[]{}()<>!~`% ="), max_size=60))
def test_any_text_is_a_value(uboot, value):
    """What is set is what is read, whatever it means to a shell."""
    uboot.set_env("x", value)
    assert uboot.get_env("x") == value


def test_dhcp(uboot):
    """setup_dhcp() has the address that QEMU's server gives, and asks for no file."""
    assert uboot.setup_dhcp() == DhcpInfo(ip_address="10.0.2.15", gateway="10.0.2.2", netmask="255.255.255.0")
    assert uboot.get_env("autoload") == "no"


# ------------------------------------------------------------------ faults


def test_a_board_that_resets_is_told():
    """ConnectionError comes with the boot, not with the timeout; boot() does not wait, and reboot() gets back."""
    with pty_board() as (_, uboot):
        uboot.reboot()
        begin = time.monotonic()
        with pytest.raises(DriverConnectionError, match="was reset while it ran 'reset'"):
            uboot.run("reset", timeout=100)
        assert time.monotonic() - begin < 50
        assert usable(uboot), "Ctrl-C of the next command stops the autoboot too"
        uboot.boot("reset")
        uboot.serial.expect("resetting", since="boot", timeout=20)
        uboot.serial.close()
        uboot.reboot()
        assert usable(uboot)


def test_a_console_that_goes_away_is_told(tmp_path):
    """A closed socket is ConnectionError at once, and so is one that is not there."""
    driver = on_a_socket(tmp_path)
    with serve(driver) as uboot:
        with pytest.raises(DriverConnectionError):
            uboot.run("version")
        uboot.reboot()
        with ThreadPoolExecutor() as pool:
            running = pool.submit(uboot.run, "echo begun; sleep 100", 100)
            until(driver._sessions.turn.locked)
            driver.children["power"].off()  # type: ignore[attr-defined]
            with pytest.raises(DriverConnectionError, match="the console has closed"):
                running.result(50)


def test_an_unplugged_adapter_is_told():
    """A serial console that is lost is ConnectionError, with its reason."""
    with pty_board() as (driver, uboot):
        uboot.reboot()
        with ThreadPoolExecutor() as pool:
            running = pool.submit(uboot.run, "echo begun; sleep 100", 100)
            uboot.serial.expect("\nbegun", since="boot", timeout=20)
            driver.children["power"].unplug()  # type: ignore[attr-defined]
            with pytest.raises(DriverConnectionError, match="the console is gone"):
                running.result(50)


def test_who_types_is_not_disturbed():
    """While somebody has the console open, a call is refused by name, and a reboot does not touch the power."""
    with pty_board() as (driver, uboot):
        uboot.power.on()
        process = driver.children["power"].process  # type: ignore[attr-defined]
        with uboot.serial.stream():
            for call in (uboot.reboot, lambda: uboot.run("version")):
                with pytest.raises(DriverError, match="tester has this console open"):
                    call()
        assert driver.children["power"].process is process  # type: ignore[attr-defined]
        assert uboot.power.is_on() is True
        uboot.reboot()


def test_no_uboot_is_told():
    """Without a prompt nothing is typed but Ctrl-C; the error says how to get there."""
    with pty_board() as (_, uboot), pytest.raises(DriverTimeout, match=r"no '=> ' to type at: reboot\(\)"):
        uboot.run("version", timeout=1)


# ------------------------------------------------------------------ commands of j


def j(uboot: Any, *words: str) -> tuple[int, str]:
    """Exit code and output of `j uboot WORDS`."""
    result = CliRunner().invoke(uboot.cli(), words)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@X86
def test_run_exits_with_the_status(uboot):
    """`j uboot run` shows the output and exits with $?; with --json it is all in one object."""
    assert j(uboot, "run", "echo", "-n", "a") == (0, "a\n")
    assert j(uboot, "run", "false") == (1, "")
    assert j(uboot, "run", "--timeout", "20", "echo 'a  b'") == (0, "a  b\n")
    code, output = j(uboot, "run", "--json", "nosuch")
    assert (code, json.loads(output)["status"]) == (1, 1)


@ARM64
def test_env_and_dhcp_commands(uboot):
    """`j uboot env` and `dhcp` do what the methods do; a variable that is not there is exit code 1."""
    assert j(uboot, "env", "set", "x", "a $b") == (0, "")
    assert j(uboot, "env", "get", "x") == (0, "a $b\n")
    assert json.loads(j(uboot, "env", "print", "--json")[1])["x"] == "a $b"
    assert "x=a $b\n" in j(uboot, "env", "print")[1]
    assert j(uboot, "env", "set", "x") == (0, "")
    assert j(uboot, "env", "get", "x") == (1, "Error: x is not defined\n")
    assert j(uboot, "env", "get", "--json", "x") == (0, "null\n")
    assert json.loads(j(uboot, "dhcp", "--json")[1])["ip_address"] == "10.0.2.15"
    assert j(uboot, "dhcp") == (0, "address 10.0.2.15  netmask 255.255.255.0  gateway 10.0.2.2\n")


def test_reboot_boot_and_console_commands(tmp_path):
    """`reboot` shows the boot, `boot` returns at once, `console` wants a serial driver that one can talk to."""
    with serve(on_a_socket(tmp_path)) as uboot:
        assert "Hit any key" in j(uboot, "reboot")[1]
        assert j(uboot, "boot", "reset") == (0, "")
        code, output = j(uboot, "console")
        assert (code, "only a byte stream" in output) == (2, True)


def test_console_reboots_and_then_talks(monkeypatch):
    """`j uboot console` hands over to the `console` command of the serial driver, with the board at its prompt."""
    talks = []
    monkeypatch.setattr("jsnats.sdk.cli._console_click.run_console", lambda client, options: talks.append(client.path))
    with pty_board() as (_, uboot):
        assert j(uboot, "console") == (0, "")
        assert talks == ["serial"]
        assert usable(uboot)
