import gzip
import json
import os
import signal
import struct
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from anyio import EndOfStream
from click.testing import CliRunner

from jsnats.client import ConsoleClient
from jsnats.common.exceptions import (
    DriverConnectionError,
    DriverNotImplemented,
    DriverOSError,
    DriverValueError,
    InvalidArgument,
)
from jsnats.common.utils import serve
from jsnats_driver_network.adapters import TcpPortforwardAdapter

from .board import Forward, arch_of, host_arch
from .client import QemuClient
from .driver import Qemu
from .testing import UBOOT, busybox, dropbear, kernel, make_initrd, missing

pytestmark = pytest.mark.skipif(bool(missing("aarch64")), reason=missing("aarch64"))


@contextmanager
def served(folder: Path, **parameters: Any) -> Iterator[QemuClient]:
    """A board that comes up in U-Boot, by default on arm64."""
    given: dict[str, Any] = {"arch": "arm64", "mem": "128M", "accel": "tcg", "directory": folder} | parameters
    if given["arch"] == "arm64":
        given["default_partitions"] = {"bios": UBOOT["aarch64"]} | given.get("default_partitions", {})
    with serve(Qemu(**given)) as client:
        assert isinstance(client, QemuClient)
        with client.console:
            yield client


@pytest.fixture
def board(tmp_path):
    """A board that comes up in U-Boot, with a disk of 1 MiB."""
    with served(tmp_path, disk_size="1M") as client:
        yield client


def boot(board: QemuClient) -> Any:
    """Switch on, and stop in U-Boot; returns the console."""
    board.power.on()
    return stop_in_uboot(board)


def stop_in_uboot(board: QemuClient) -> Any:
    """Stop in U-Boot after a power-on; returns the console."""
    board.console.expect("stop autoboot", since="boot")
    board.console.send("\r")
    board.console.expect("=> ")
    return board.console


def run(console: ConsoleClient, *commands: str, told: str = "") -> None:
    """Run commands in U-Boot; the last one tells `told`."""
    console.sendline("; ".join(commands))
    console.expect(rf"\n{told}[^\n]*\r\n=> " if told else "=> ")


def until_marked(board: QemuClient, text: str) -> None:
    """Wait for a marker in the record since the last power-on."""
    with closing(board.console.watch("boot")) as records:
        assert any(text in each.text for each in records)


def pid_of(board: QemuClient) -> int:
    """The process of its QEMU, found by the UUID in its command line."""
    uuid = board.qmp("query-uuid")["UUID"].encode()
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if uuid in each.read_bytes():
                return int(each.parent.name)
        except OSError:
            continue
    raise AssertionError("no such process")


@pytest.mark.parametrize("arch", ["aarch64", "x86_64", "riscv64"])
def test_a_board_comes_up_in_uboot_and_again(tmp_path, arch):
    """On each architecture U-Boot is at its prompt, on the console that goes on over a power cycle; VNC answers."""
    if missing(arch):
        pytest.skip(missing(arch))
    with served(tmp_path, arch=arch, default_partitions={"bios": UBOOT[arch]}) as board:
        assert board.power.is_on() is False
        console = boot(board)
        run(console, "echo up $arch", told="up ")
        with board.vnc.stream() as screen:
            assert screen.receive(timeout_s=20).startswith(b"RFB 003.")
        board.power.cycle(0.0)
        stop_in_uboot(board)
        assert board.power.is_on() is True
        board.power.off()
        assert board.power.is_on() is False


@pytest.mark.parametrize(
    ("arch", "partition", "said"), [("aarch64", "pflash0", "U-Boot"), ("riscv64", "kernel", "OpenSBI")]
)
def test_other_ways_to_boot(tmp_path, arch, partition, said):
    """U-Boot starts from a flash chip, and as the kernel that OpenSBI hands over to."""
    image = {"pflash0": UBOOT["aarch64"], "kernel": UBOOT["riscv64"].parents[1] / "qemu-riscv64_smode/u-boot.bin"}
    if missing(arch) or not image[partition].is_file():
        pytest.skip(missing(arch) or f"{image[partition]} is not installed")
    with served(tmp_path, arch=arch, default_partitions={}) as board:
        board.flasher.flash(image[partition], target=partition)
        board.power.on()
        board.console.expect(said, since="boot")
        stop_in_uboot(board)


def test_the_console_is_there_while_the_board_is_off(board):
    """It is open, what is written to it is lost, and the first byte of the next power-on is not."""
    assert board.console.status()["open"] is True
    board.console.send("lost")
    board.power.on()
    said = board.console.expect("U-Boot 20", since="boot").before
    assert said.strip() == ""


def test_what_uboot_writes_is_dumped_and_what_was_flashed_it_reads(board, tmp_path):
    """A disk is flashed, compressed, read and written by the guest over a power cycle, and dumped as it was left."""
    image = tmp_path / "disk.img.gz"
    image.write_bytes(gzip.compress(b"flashed!" * 64))
    board.flasher.flash(image)
    console = boot(board)
    run(console, "virtio read 41000000 0 1", "md.b 41000000 8", told="41000000: 66 6c 61 73 68 65 64 21")
    run(console, "mw.b 41000000 5a 200", "virtio write 41000000 1 1", told="virtio write")
    board.power.cycle(0.0)
    run(stop_in_uboot(board), "virtio read 41000000 1 1", "md.b 41000000 8", told="41000000: 5a 5a 5a 5a")
    board.power.off()
    board.flasher.dump(tmp_path / "dump.img")
    dump = (tmp_path / "dump.img").read_bytes()
    assert dump[:1024] == b"flashed!" * 64 + b"Z" * 512
    assert len(dump) == 1 << 20


def test_firmware_is_flashed(tmp_path):
    """A board without firmware boots the U-Boot that it is given, and a dump gives that back."""
    with served(tmp_path, arch="riscv64") as board:
        board.flasher.flash({"bios": UBOOT["riscv64"]})
        boot(board)
        board.power.off()
        board.flasher.dump(tmp_path / "u-boot.bin", target="bios")
        assert (tmp_path / "u-boot.bin").read_bytes() == UBOOT["riscv64"].read_bytes()


def test_the_flash_chip_keeps_what_the_guest_writes_until_the_board_is_destroyed(board):
    """A sector of pflash1 that was erased (0xff) is so after a power cycle, and new after off(destroy=True)."""
    run(boot(board), "md.b 4100000 4", told="04100000: 00 00 00 00")
    run(board.console, "erase 4100000 +40000", "md.b 4100000 4", told="04100000: ff ff ff ff")
    board.power.cycle(0.0)
    run(stop_in_uboot(board), "md.b 4100000 4", told="04100000: ff ff ff ff")
    board.power.off(destroy=True)
    run(boot(board), "md.b 4100000 4", told="04100000: 00 00 00 00")


def test_a_board_goes_back_to_a_snapshot(board):
    """Memory and disk are as they were when it was saved, also after a power cycle, until it is deleted."""
    console = boot(board)
    run(console, "setenv x one", "mw.b 41000000 11 200", "virtio write 41000000 0 1", told="virtio write")
    board.snapshots.save("first")
    run(console, "setenv x two", "mw.b 41000000 22 200", "virtio write 41000000 0 1", told="virtio write")
    board.power.cycle(0.0)
    stop_in_uboot(board)
    board.snapshots.load("first")
    run(console, "printenv x", told="x=one")
    run(console, "virtio read 41000000 0 1", "md.b 41000000 4", told="41000000: 11 11 11 11")
    assert [(each.name, each.size > 100_000) for each in board.snapshots.list()] == [("first", True)]
    board.snapshots.delete("first")
    assert board.snapshots.list() == []


def test_faults_of_snapshots(board):
    """Off, taken, unknown and unfit names are each told; a flash ends the snapshots."""
    with pytest.raises(DriverConnectionError, match="is off: switch it on"):
        board.snapshots.list()
    boot(board)
    board.snapshots.save("one")
    with pytest.raises(DriverValueError, match="a snapshot 'one' already"):
        board.snapshots.save("one")
    with pytest.raises(DriverValueError, match="no snapshot 'two': there is one"):
        board.snapshots.load("two")
    with pytest.raises(InvalidArgument, match="argument 'name': '1 2' is no name of a snapshot: a letter or _, then"):
        board.snapshots.save("1 2")
    board.power.off()
    board.flasher.flash(b"new")
    boot(board)
    assert board.snapshots.list() == []


def test_a_name_is_free_again_after_a_flash(board):
    """What a disk still has of a snapshot of that name is not what is loaded."""
    boot(board)
    board.snapshots.save("one")
    board.power.off()
    board.flasher.flash(bytes(512), target="pflash1")
    run(boot(board), "mw.b 41000000 22 200", "virtio write 41000000 0 1", told="virtio write")
    board.snapshots.save("one")
    run(board.console, "mw.b 41000000 33 200", "virtio write 41000000 0 1", told="virtio write")
    board.snapshots.load("one")
    run(board.console, "virtio read 41000000 0 1", "md.b 41000000 4", told="41000000: 22 22 22 22")


def test_a_board_that_is_on_is_not_flashed_or_dumped(board, tmp_path):
    """Both say that it has to be off; nothing has changed then."""
    board.power.on()
    with pytest.raises(DriverOSError, match="the board is on: switch it off first"):
        board.flasher.flash(b"x")
    with pytest.raises(DriverOSError, match="the board is on"):
        board.flasher.dump(tmp_path / "dump")


def test_images_that_cannot_be(board, tmp_path):
    """One that is too large, empty or leads to other files, and a partition there is not, are refused in words."""
    outside = b"QFI\xfb" + struct.pack(">IQ", 3, 104) + bytes(96)
    for image, target, told in (
        (bytes((1 << 20) + 512), None, "does not fit: root has 1048576"),
        (b"", None, "empty"),
        (outside, None, "needs another file"),
        (b"x", "sda1", "no partition 'sda1': there is root, bios"),
    ):
        with pytest.raises(DriverValueError, match=told):
            board.flasher.flash(image, target=target)
    with pytest.raises(DriverValueError, match="nothing in kernel"):
        board.flasher.dump(tmp_path / "dump", target="kernel")
    assert not [*tmp_path.glob("jsnats-qemu-*/root.*")]


def test_nothing_is_left_at_the_end(tmp_path):
    """Destroying removes the disks, and so does the end of a lease; the images of the lab are as they were."""
    image = tmp_path / "image"
    image.write_bytes(b"lab" * 512)
    with served(tmp_path, default_partitions={"root": image}) as board:
        run(boot(board), "mw.b 41000000 5a 200", "virtio write 41000000 0 1", told="virtio write")
        assert [*tmp_path.glob("jsnats-qemu-*")]
        board.power.off(destroy=True)
        assert not [*tmp_path.glob("*jsnats-qemu-*")]
        run(boot(board), "virtio read 41000000 0 1", "md.b 41000000 3", told="41000000: 6c 61 62")
        pid = pid_of(board)
    assert not [*tmp_path.glob("*jsnats-qemu-*")]
    assert not Path(f"/proc/{pid}").exists()
    assert image.read_bytes() == b"lab" * 512


def test_the_monitor_is_reached_for_what_touches_only_the_board(board):
    """Queries, reset, keys and the link are; what reads or writes files of the host is not."""
    with pytest.raises(DriverConnectionError, match="is off"):
        board.qmp("query-status")
    console = boot(board)
    board.qmp("set_link", {"name": "net", "up": False})
    board.qmp("stop")
    assert board.qmp("query-status")["status"] == "paused"
    board.qmp("cont")
    board.qmp("system_reset")
    console.expect("stop autoboot")
    for command in ("human-monitor-command", "blockdev-add", "screendump", "quit", "migrate"):
        with pytest.raises(DriverOSError, match="reaches beyond the board"):
            board.qmp(command)
    with pytest.raises(DriverOSError, match="QEMU refuses set_link: .*nope"):
        board.qmp("set_link", {"name": "nope", "up": True})


def test_a_qemu_that_is_killed_in_a_call_is_told(board):
    """The call says how QEMU ended, and so does the next; the record has it; the board is switched on again."""
    boot(board)
    pid = pid_of(board)
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(DriverConnectionError, match="QEMU ended: killed by SIGKILL"):
        board.qmp("query-status")
    until_marked(board, "QEMU ended: killed by SIGKILL")
    assert board.power.is_on() is False
    with pytest.raises(DriverConnectionError, match="the board is off, QEMU ended: killed by SIGKILL"):
        board.snapshots.list()
    with pytest.raises(DriverConnectionError, match="is off"), board.vnc.stream():
        pass
    boot(board)


def test_a_guest_may_switch_itself_off(board):
    """Its end is no fault: the board is off, and the record says why."""
    boot(board).sendline("poweroff")
    until_marked(board, "the guest has switched itself off")
    assert board.power.is_on() is False


def test_a_qemu_that_hangs_is_off_all_the_same(board, monkeypatch):
    """One that does not answer is killed."""
    monkeypatch.setattr("jsnats_driver_qemu.process.QUIT_S", 0.1)
    boot(board)
    pid = pid_of(board)
    os.kill(pid, signal.SIGSTOP)
    board.power.off()
    assert not Path(f"/proc/{pid}").exists()


def test_a_qemu_that_does_not_start_says_why(tmp_path, monkeypatch):
    """Its own words are in the error; a QEMU that is not there is named with its package."""
    with served(tmp_path, cpu="z80") as board:
        with pytest.raises(DriverOSError, match="QEMU did not start: exit code 1: .*z80"):
            board.power.on()
        assert board.power.is_on() is False
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(DriverOSError, match="qemu-system-aarch64 is not installed: .* install qemu-system-arm"):
            board.power.on()
        board.power.off(destroy=True)
        with pytest.raises(DriverOSError, match="qemu-img is not installed: .* install qemu-utils"):
            board.power.on()


def test_it_does_not_measure(board):
    """read() says so, and what to ask instead."""
    with pytest.raises(DriverNotImplemented, match="is_on"):
        next(board.power.read())


def test_commands(board, tmp_path):
    """`j` switches, flashes, saves, lists, loads and asks the monitor; wrong arguments are a usage error."""

    def j(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(board.cli(), words, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.output

    (tmp_path / "image").write_bytes(b"image")
    j("flasher", "flash", str(tmp_path / "image"))
    j("power", "on")
    assert j("power", "state").strip() == "on"
    stop_in_uboot(board)
    j("snapshots", "save", "one")
    assert j("snapshots", "list").endswith(" MB  one\n")
    assert json.loads(j("snapshots", "list", "--json"))["name"] == "one"
    j("snapshots", "load", "one")
    j("snapshots", "delete", "one")
    assert json.loads(j("qmp", "query-status"))["status"] == "running"
    assert json.loads(j("qmp", "send-key", '{"keys": [{"type": "qcode", "data": "a"}]}')) == {}
    assert "must be a JSON object" in j("qmp", "query-status", "[]", code=2)
    assert "no JSON" in j("qmp", "query-status", "{", code=2)
    j("power", "off", "--destroy")
    assert j("get-hostname").strip() == "demo"


# ------------------------------------------------------------------ a Linux

_image, _shell, _ssh = kernel(), busybox(), dropbear()


@pytest.fixture(scope="module")
def linux(tmp_path_factory):
    """A board that has booted Debian's kernel to busybox's login."""
    if not (_image and _shell):
        pytest.skip("linux-image-cloud-* or busybox-static is not installed")
    if reason := missing(arch_of(host_arch())):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("linux")
    make_initrd(folder / "initrd", _image, _shell, _ssh)
    parameters = {
        "arch": host_arch(),
        "smp": 1,
        "mem": "256M",
        "append": "quiet mitigations=off",
        "default_partitions": {"kernel": _image, "initrd": folder / "initrd"},
        "hostname": "board-7",
        "username": "ann",
        "password": "s3cret-word",
        "hostfwd": {"web": Forward(guestport=80), "closed": Forward(guestport=81)},
    }
    with served(folder, **parameters) as client:
        client.power.on()
        client.console.expect("board-7 login: ", since="boot", timeout=150)
        yield client


@pytest.mark.timeout(180)
def test_a_guest_is_who_it_is_told_to_be(linux):
    """The user of the seed logs in with the password of the seed, on a host of that name, and runs a command."""
    console = linux.console
    console.send("\n")
    console.expect("board-7 login: ")
    console.sendline(linux.username)
    console.expect("Password: ")
    console.sendline(linux.password)
    console.expect(r"\$ ")
    console.sendline("echo $(id -un) on $(hostname) has $((6 * 7))")
    console.expect("\nann on board-7 has 42\r")
    console.sendline("grep -o hostname=.* /proc/cmdline")
    console.expect("\nhostname=board-7 quiet")
    console.sendline("exit")
    console.expect("board-7 login: ")


@pytest.mark.timeout(180)
def test_a_server_in_the_guest_is_reached(linux):
    """A forward leads to the web server of the guest; a port where nobody listens ends the connection."""
    with TcpPortforwardAdapter(client=linux.web) as (host, port):
        for _ in range(2):
            with urllib.request.urlopen(f"http://{host}:{port}/hostname", timeout=30) as answer:
                assert answer.read() == b"board-7\n"
    with linux.closed.stream() as stream, pytest.raises(EndOfStream):
        stream.receive(timeout_s=30)


@pytest.mark.timeout(180)
def test_sysrq(linux):
    """A break and a letter reach the kernel."""
    linux.console.send_break()
    linux.console.send("h")
    linux.console.expect("sysrq: HELP")


@pytest.mark.timeout(180)
@pytest.mark.skipif(not _ssh, reason="dropbear-bin is not installed")
def test_ssh_to_the_guest(linux):
    """shell() runs a command as the user of the seed, over the child `ssh`."""
    with linux.shell() as connection:
        assert connection.run("echo $(id -un) on $(hostname)", hide=True, in_stream=False).stdout == "ann on board-7\n"


@pytest.mark.timeout(180)
def test_a_linux_goes_back_to_a_snapshot(linux):
    """A file that was made after it is not there any more."""
    linux.snapshots.save("up")
    console = linux.console
    console.send("\n")
    console.expect("login: ")
    console.sendline(linux.username)
    console.expect("Password: ")
    console.sendline(linux.password)
    console.expect(r"\$ ")
    linux.snapshots.load("up")
    console.send("\n")
    console.expect("login: ")
    linux.snapshots.delete("up")
