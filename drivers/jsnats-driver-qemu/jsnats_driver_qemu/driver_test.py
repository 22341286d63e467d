import asyncio
import gzip
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import jsnats_driver_qemu
from jsnats.agent import load
from jsnats.common.utils import serve
from jsnats.testing import until_async
from jsnats_driver_qemu import process, vm
from jsnats_driver_qemu.board import Board, Forward
from jsnats_driver_qemu.disks import Disks
from jsnats_driver_qemu.driver import Qemu
from jsnats_driver_qemu.identity import Identity
from jsnats_driver_qemu.image import Image
from jsnats_driver_qemu.power import QemuPower
from jsnats_driver_qemu.testing import UBOOT, missing

needs_qemu = pytest.mark.skipif(bool(missing("aarch64")), reason=missing("aarch64"))


def uboot(folder: Path, **parameters: Any) -> Qemu:
    """A board that comes up in U-Boot on arm64."""
    given: dict[str, Any] = {"arch": "aarch64", "mem": "128M", "accel": "tcg", "directory": folder}
    return Qemu(**(given | {"default_partitions": {"bios": UBOOT["aarch64"]}} | parameters))


# ------------------------------------------------------------------ parameters


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"arch": "z80"}, "arch"),
        ({"mem": 512}, "mem\n.*'512' is no size of a memory: say M or G with it"),
        ({"mem": "0M"}, "mem\n.*'0M' is no size"),
        ({"smp": 0}, "smp"),
        ({"cpu": "max -device x"}, "cpu"),
        ({"accel": "hvf"}, "accel"),
        ({"disk_size": "1P"}, "disk_size\n.*'1P' is no size of a disk: bytes, or with K, M, G or T"),
        ({"disk_size": ""}, "disk_size"),
        ({"hostname": "a b"}, "hostname"),
        ({"username": "Ann"}, "username"),
        ({"password": ""}, "password"),
        ({"default_partitions": {"sda1": "/x"}}, "default_partitions"),
        ({"hostfwd": {"web": {"guestport": 0}}}, "guestport"),
        ({"hostfwd": {"web": {"guestport": 80, "protocol": "udp"}}}, "protocol"),
        ({"hostfwd": {"web": {"guestport": 80, "hostaddr": "::1"}}}, "hostaddr"),
        ({"hostfwd": {"console": {"guestport": 80}}}, "hostfwd: console is another child"),
    ],
)
def test_a_parameter_that_cannot_be_is_named(config, told):
    """A wrong parameter is refused where the board is made, by its name."""
    with pytest.raises((ValidationError, ValueError), match=told):
        Qemu(**config)


def test_a_size_may_be_a_number():
    """As YAML reads one that has no letter."""
    sized: dict[str, Any] = {"disk_size": 1 << 30}
    assert Qemu(**sized).disk_size == "1073741824"


@pytest.mark.parametrize(("given", "arch"), [("arm64", "aarch64"), ("amd64", "x86_64"), ("riscv64", "riscv64")])
def test_architectures_have_two_names(given, arch):
    """That of Debian and that of QEMU mean the same."""
    assert Qemu(arch=given).vm.board.arch == arch


def test_a_host_that_is_no_model_has_to_say_one(monkeypatch):
    """The default is the architecture of the host, if a board of that can be made."""
    monkeypatch.setattr("platform.machine", lambda: "s390x")
    with pytest.raises(ValueError, match="arch: there is no model of s390x: say one of aarch64, riscv64, x86_64"):
        Qemu()


async def test_files_that_are_not_there_are_told_at_the_start(tmp_path):
    """A default image and a directory that are missing stop the agent, by their names."""
    with pytest.raises(FileNotFoundError, match=r"default_partitions: kernel: there is no file .*nope"):
        await Qemu(arch="arm64", default_partitions={"kernel": tmp_path / "nope"}).start()
    with pytest.raises(FileNotFoundError, match=r"directory: there is no .*nope"):
        await Qemu(arch="arm64", directory=tmp_path / "nope").start()


def test_the_password_is_not_shown():
    """Neither the driver's repr nor that of what it is made of has it."""
    board = Qemu(arch="arm64", password="very-secret")
    assert "very-secret" not in repr(board) + repr(board.vm)


# ------------------------------------------------------------------ the command line


def board(**more: Any) -> Board:
    """A board without forwards."""
    given: dict[str, Any] = {
        "arch": "aarch64",
        "cpu": None,
        "smp": 1,
        "mem": "1G",
        "hostname": "demo",
        "append": "",
        "restrict": False,
        "forwards": [],
    }
    return Board(**(given | more))


def after(command: list[str], option: str) -> list[str]:
    """What is said with an option."""
    return [command[at + 1] for at, each in enumerate(command) if each == option]


def test_the_command_line_has_what_was_said():
    """Kernel, forwards, and folders with a comma in their name come through; the console is the architecture's."""
    made = board(append="quiet", restrict=True, cpu="cortex-a57", forwards=[Forward(guestport=80, hostport=8080)])
    command = made.command("tcg", {"kernel": Path("/k"), "root": Path("/a,b/root")}, Path("/a,b"), "id")
    assert after(command, "-append") == ["console=ttyAMA0 hostname=demo quiet"]
    assert after(command, "-netdev") == ["user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:8080-:80"]
    assert after(command, "-vnc") == ["unix:/a,,b/vnc"]
    assert [json.loads(each)["node-name"] for each in after(command, "-blockdev")] == ["vmstate", "disk-root", "cidata"]
    assert after(command, "-cpu") == ["cortex-a57"]


def test_a_console_that_is_named_is_not_named_twice():
    """`console=` in `append` stands in place of the default."""
    command = board(append="console=tty0").command("tcg", {"kernel": Path("/k")}, Path("/f"), "id")
    assert after(command, "-append") == ["hostname=demo console=tty0"]


def test_the_seed_is_what_cloud_init_reads(tmp_path):
    """meta-data names instance and host, user-data is a cloud-config with the user, the password and the keys."""
    Identity(hostname="h", username="ann", password='p"w', keys=("ssh-ed25519 AAAA",)).write(tmp_path / "seed", "one")
    assert json.loads((tmp_path / "seed" / "meta-data").read_text()) == {"instance-id": "one", "local-hostname": "h"}
    head, _, body = (tmp_path / "seed" / "user-data").read_text().partition("\n")
    assert head == "#cloud-config"
    (user,) = json.loads(body)["users"]
    assert (user["name"], user["plain_text_passwd"]) == ("ann", 'p"w')
    assert user["ssh_authorized_keys"] == ["ssh-ed25519 AAAA"]


# ------------------------------------------------------------------ images and disks


def qcow2(path: Path, *options: str) -> Path:
    """An image of QEMU's own making."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, path, "3M"], check=True)
    return path


@needs_qemu
def test_an_image_is_what_its_header_says(tmp_path):
    """Format and size of a raw and of a qcow2 image are known without QEMU."""
    (tmp_path / "raw").write_bytes(bytes(1000))
    raw, whole = Image.of(tmp_path / "raw"), Image.of(qcow2(tmp_path / "whole"))
    assert (raw.format, raw.size) == ("raw", 1000)
    assert (whole.format, whole.size) == ("qcow2", 3 << 20)


@needs_qemu
def test_an_image_may_not_lead_to_other_files(tmp_path):
    """A qcow2 with a backing file or a data file would read any file of the exporter: it is refused."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1 << 20))
    for options in (["-b", str(secret), "-F", "raw"], ["-o", f"data_file={tmp_path / 'data'}"]):
        with pytest.raises(ValueError, match="needs another file: make it whole"):
            Image.of(qcow2(tmp_path / "leads", *options))
    with pytest.raises(ValueError, match="its qcow2 header is not whole"):
        Image.of(damaged(tmp_path / "short", b"QFI\xfb" + bytes(10)))
    with pytest.raises(ValueError, match="qcow2 of version 9"):
        Image.of(damaged(tmp_path / "new", b"QFI\xfb\0\0\0\x09" + bytes(200)))


def damaged(path: Path, data: bytes) -> Path:
    """A file with that in it."""
    path.write_bytes(data)
    return path


@needs_qemu
def test_a_qcow2_image_is_flashed_and_read_as_a_disk(tmp_path):
    """What is dumped is raw; an image that arrives damaged leaves the one before it."""
    subprocess.run(
        ["qemu-img", "convert", "-O", "qcow2", damaged(tmp_path / "a", b"disk" * 512), tmp_path / "q"], check=True
    )
    with serve(uboot(tmp_path)) as client:
        client.flasher.flash(tmp_path / "q")
        with pytest.raises(ValueError, match="gzip data"):
            client.flasher.flash(gzip.compress(b"x" * 100_000)[:-20] + bytes(12))
        client.flasher.dump(tmp_path / "dump")
    assert (tmp_path / "dump").read_bytes() == b"disk" * 512


@needs_qemu
async def test_a_default_image_has_to_fit(tmp_path):
    """One that is larger than disk_size is told at power-on."""
    driver = uboot(tmp_path, disk_size="1K", default_partitions={"root": damaged(tmp_path / "big", bytes(2048))})
    with pytest.raises(ValueError, match="2048 bytes does not fit: root has 1024"):
        await driver.vm.on()
    await driver.stop()


async def test_what_a_killed_agent_left_is_removed(tmp_path):
    """A folder that nobody holds goes when the next one is made; one that is held stays."""
    left = tmp_path / "jsnats-qemu-left"
    left.mkdir()
    (left / "lock").touch()
    (left / "root.qcow2").touch()
    held = Disks(tmp_path, {}, {}, ())
    assert held.folder.is_dir()
    assert not left.exists()
    other = Disks(tmp_path, {}, {}, ())
    assert other.folder != held.folder
    assert held.folder.is_dir()
    await held.destroy()
    await other.destroy()
    assert [*tmp_path.iterdir()] == []


# ------------------------------------------------------------------ the process


_AGENT = """
import sys, time
from pathlib import Path
from jsnats.common.utils import serve
from jsnats_driver_qemu.driver_test import uboot
driver = uboot(Path(sys.argv[1]))
with serve(driver) as client:
    client.power.on()
    print(driver.vm.run.pid, flush=True)
    time.sleep(100)
"""


@needs_qemu
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux does it")
def test_a_killed_agent_leaves_no_qemu(tmp_path):
    """SIGKILL of the agent ends QEMU too, and its disks go when the next board is made."""
    with subprocess.Popen([sys.executable, "-c", _AGENT, str(tmp_path)], stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout
        line = agent.stdout.readline()
        agent.kill()
    with suppress(ProcessLookupError):  # gone already
        ended = os.pidfd_open(int(line))
        assert select.select([ended], [], [], 30)[0]
        os.close(ended)
    assert [*tmp_path.glob("jsnats-qemu-*")]
    disks = Disks(tmp_path, {}, {}, ())
    folder = disks.folder
    assert [*tmp_path.glob("jsnats-qemu-*")] == [folder]
    asyncio.run(disks.destroy())


@needs_qemu
async def test_auto_emulates_where_kvm_fails(tmp_path, monkeypatch, caplog):
    """`auto` falls back, says so once, and remembers; `kvm` insists."""
    monkeypatch.setattr(vm, "kvm_for", lambda arch: True)
    insists = uboot(tmp_path, accel="kvm", cpu="cortex-a57,pmu=nonsense")
    with pytest.raises(OSError, match="QEMU did not start"):
        await insists.vm.on()
    monkeypatch.setattr(Board, "command", _without_kvm(Board.command))
    driver = uboot(tmp_path, accel="auto")
    for _ in range(2):
        await driver.vm.on()
        assert driver.vm.is_on
        await driver.vm.off()
    assert [each.getMessage()[:45] for each in caplog.records] == ["KVM does not work here, emulating instead: QE"]
    await driver.stop()
    await insists.stop()


def _without_kvm(command: Any) -> Any:
    return lambda self, accel, *rest: command(self, "no-such-accelerator" if accel == "kvm" else accel, *rest)


@pytest.fixture
def silent(tmp_path, monkeypatch):
    """A QEMU that starts and never answers; returns the file where its process id comes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, does in (("qemu-system-aarch64", f"echo $$ > {tmp_path}/pid; exec sleep 1000"), ("qemu-img", "touch $8")):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr("jsnats_driver_qemu.disks._create", _touch)
    return tmp_path / "pid"


async def _touch(path: Path, *_: str) -> None:
    await asyncio.to_thread(path.touch)


async def test_a_power_on_that_is_cancelled_leaves_no_process(tmp_path, silent):
    """The caller gives up while QEMU starts: it is gone, and the board is off."""
    driver = Qemu(arch="arm64", accel="tcg", directory=tmp_path)
    task = asyncio.create_task(driver.vm.on())
    pid = (await until_async(silent.read_text, 30, despite=FileNotFoundError)).strip()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not driver.vm.is_on
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    await driver.stop()


async def test_a_qemu_that_does_not_answer_is_given_up(tmp_path, silent, monkeypatch):
    """It is killed after START_S, and the error says how long that was."""
    monkeypatch.setattr(process, "START_S", 0.5)
    driver = Qemu(arch="arm64", accel="tcg", directory=tmp_path)
    with pytest.raises(TimeoutError, match=r"did not start within 0.5 s"):
        await driver.vm.on()
    assert not driver.vm.is_on
    await driver.stop()


@needs_qemu
async def test_the_end_of_a_lease_destroys_the_board(tmp_path):
    """close() of the power leaves no process and no file; the next power-on is of another board."""
    driver = uboot(tmp_path)
    power = driver.children["power"]
    assert isinstance(power, QemuPower)
    await power.on()
    first, pid = driver.vm.disks.instance, driver.vm.run.pid
    await power.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert os.listdir(tmp_path) == []
    assert driver.vm.disks.instance != first
    await driver.stop()


@needs_qemu
async def test_two_at_once_start_one_qemu(tmp_path):
    """on() twice at the same time, and on() of a board that is on, are one start."""
    driver = uboot(tmp_path)
    await asyncio.gather(driver.vm.on(), driver.vm.on())
    first = driver.vm.run.pid
    await driver.vm.on()
    assert driver.vm.run.pid == first
    await driver.stop()


@needs_qemu
async def test_a_board_that_was_destroyed_during_a_flash_says_so(tmp_path):
    """What was written has no place any more."""
    driver = uboot(tmp_path)
    path = driver.vm.disks.incoming("root")
    await driver.vm.off(destroy=True)
    with pytest.raises(OSError, match="destroyed while it was flashed"):
        await driver.vm.put("root", path)
    await driver.stop()


@needs_qemu
async def test_an_end_that_nobody_asked_for_is_an_event(tmp_path, monkeypatch):
    """`ended` tells exit code and reason; switching off is none."""
    events: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
    driver = uboot(tmp_path)
    monkeypatch.setattr(Qemu, "emit", lambda self, name, **data: events.put_nowait((name, data)))
    await driver.vm.on()
    await driver.vm.off()
    await driver.vm.on()
    os.kill(driver.vm.run.pid, signal.SIGSEGV)
    async with asyncio.timeout(30):
        assert await events.get() == ("ended", {"code": -11, "reason": "QEMU ended: killed by SIGSEGV"})
    await driver.stop()
    assert events.empty()


# ------------------------------------------------------------------ the package


def test_the_example_is_a_valid_exporter(monkeypatch):
    """examples/exporter.yaml gives two boards with the parameters it says."""
    monkeypatch.setenv("GUEST_PASSWORD", "that of the example")
    (exporter,) = load([Path(__file__).parents[1] / "examples" / "exporter.yaml"])
    firmware, server = exporter.root.children["firmware"], exporter.root.children["server"]
    assert isinstance(firmware, Qemu)
    assert isinstance(server, Qemu)
    assert (firmware.vm.board.arch, firmware.disk_size, server.password) == ("aarch64", "1G", "that of the example")
    assert {"power", "console", "flasher", "vnc", "snapshots", "ssh", "web"} == server.children.keys()


def test_the_package_offers_the_driver_lazily():
    """The package has the driver by name; what is not there is an AttributeError."""
    assert jsnats_driver_qemu.Qemu is Qemu
    with pytest.raises(AttributeError, match="has no attribute 'Xen'"):
        _ = jsnats_driver_qemu.Xen


def test_a_client_does_not_load_the_exporter_side():
    """Importing the package and its client loads neither the driver nor qemu.qmp."""
    code = (
        "import sys, jsnats_driver_qemu.client as c;"
        "sys.exit(any(name in sys.modules for name in ('jsnats.driver', 'qemu.qmp', c.__package__ + '.driver')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
