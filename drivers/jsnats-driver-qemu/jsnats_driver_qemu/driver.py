"""The exporter's side of a virtual board: its parameters. What it does is in its children."""

from __future__ import annotations

import re
import tempfile
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.dataclasses import dataclass

from jsnats.driver import Driver, export

from .board import MODELS, Accel, ArchName, Board, Forward, Partition, arch_of, host_arch
from .console import QemuConsole
from .disks import Disks
from .flasher import QemuFlasher
from .identity import Identity
from .power import QemuPower
from .services import GuestPort, Vnc
from .snapshots import Snapshots
from .vm import Vm

SAFE: Final = (
    "cont",
    "inject-nmi",
    "send-key",
    "set_link",
    "stop",
    "system_powerdown",
    "system_reset",
    "system_wakeup",
)
"""What a lease may say to the monitor, beside all that begins with query-. The rest reaches files of the host."""
UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$")]
User = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]


def _text(given: Any) -> Any:
    """In YAML, a size without a letter is a number."""
    return str(given) if isinstance(given, int) else given


def _memory(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d*[MG]", text):
        raise ValueError(f"{text!r} is no size of a memory: say M or G with it, as 512M")
    return text


def _disk(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"[1-9]\d*[KMGT]?", text):
        raise ValueError(f"{text!r} is no size of a disk: bytes, or with K, M, G or T, as 8G")
    return text


@dataclass(kw_only=True)
class Qemu(Driver):
    """A virtual board.

    `mem` is in bytes with M or G, `disk_size` in bytes, or with K, M, G or T. `default_partitions` are files of this
    host with which every lease begins. `hostname`, `username`, `password` and `ssh_authorized_keys` are told to the
    guest by cloud-init's seed. `append` is added to the kernel's command line. With `restrict` the guest reaches
    nothing outside. The disks are in a folder of `directory`.
    """

    arch: ArchName = field(default_factory=host_arch)
    cpu: Annotated[str | None, Field(pattern=r"^[\w.,+=-]+$")] = None
    accel: Accel = "auto"
    smp: Annotated[int, Field(ge=1, le=64)] = 2
    mem: Annotated[str, BeforeValidator(_text), AfterValidator(_memory)] = "512M"
    disk_size: Annotated[str | None, BeforeValidator(_text), AfterValidator(_disk)] = None
    hostname: Host = "demo"
    username: User = "jumpstarter"
    password: str = Field(default="password", min_length=1, repr=False)
    ssh_authorized_keys: list[str] = field(default_factory=list)
    default_partitions: dict[Partition, Path] = field(default_factory=dict)
    append: str = ""
    hostfwd: dict[str, Forward] = field(default_factory=dict)
    restrict: bool = False
    directory: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._arch = arch_of(self.arch)
        forwards = {"ssh": Forward(guestport=22), **self.hostfwd}
        self.vm = vm = self._vm(list(forwards.values()))
        children: dict[str, Driver] = {
            "power": QemuPower(vm=vm),
            "flasher": QemuFlasher(vm=vm),
            "console": QemuConsole(vm=vm),
            "vnc": Vnc(vm=vm),
            "snapshots": Snapshots(vm=vm),
        }
        if taken := children.keys() & forwards.keys():
            raise ValueError(f"hostfwd: {', '.join(taken)} is another child of the board: give it another name")
        for name, each in forwards.items():
            about = f"TCP port {each.guestport} of the guest"
            children[name] = GuestPort(vm=vm, guestport=each.guestport, description=about)
        self.children |= children

    def _vm(self, forwards: list[Forward]) -> Vm:
        board = Board(
            arch=self._arch,
            cpu=self.cpu,
            smp=self.smp,
            mem=self.mem,
            hostname=self.hostname,
            append=self.append,
            restrict=self.restrict,
            forwards=forwards,
        )
        identity = Identity(
            hostname=self.hostname,
            username=self.username,
            password=self.password,
            keys=tuple(self.ssh_authorized_keys),
        )
        return Vm(board=board, disks=self._disks(), identity=identity, accel=self.accel, driver=self)

    def _disks(self) -> Disks:
        model = MODELS[self._arch]
        flash = model.flash
        sizes: dict[Partition, int] = {"pflash0": flash, "pflash1": flash} if flash else {}
        blank: list[Partition] = ["pflash1"] if model.settings else []
        if self.disk_size:
            sizes["root"] = int(self.disk_size.rstrip("KMGT")) * UNITS[self.disk_size.lstrip("0123456789")]
            blank.append("root")
        return Disks(self.directory, self.default_partitions, sizes, blank)

    @classmethod
    def client(cls) -> str:
        """Return the client of virtual boards."""
        return "jsnats_driver_qemu.client.QemuClient"

    async def start(self) -> None:
        """Look for what it is to begin with. Raises FileNotFoundError."""
        for name, path in self.default_partitions.items():
            if not path.is_file():
                raise FileNotFoundError(f"default_partitions: {name}: there is no file {path}")
        if not self.directory.is_dir():
            raise FileNotFoundError(f"directory: there is no {self.directory}")

    async def stop(self) -> None:
        """Nothing of it is left."""
        await self.vm.off(destroy=True)
        await self.vm.line.unplug()

    @export
    async def get_hostname(self) -> str:
        """Name that the guest is told to have."""
        return self.hostname

    @export
    async def get_username(self) -> str:
        """User that the guest is told to have."""
        return self.username

    @export
    async def get_password(self) -> str:
        """Password of that user."""
        return self.password

    @export
    async def qmp(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Give a command to QEMU's monitor, and return its answer: a query, or one of those that touch only the board.

        Raises PermissionError for others, ConnectionError while the board is off, OSError when QEMU refuses it.
        """
        if command not in SAFE and not command.startswith("query-"):
            raise PermissionError(f"{command} reaches beyond the board: there is query-*, {', '.join(SAFE)}")
        return await self.vm.run.execute(command, arguments)
