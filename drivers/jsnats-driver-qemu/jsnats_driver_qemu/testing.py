"""For tests of virtual boards: U-Boot for each architecture, and a Linux of Debian's kernel and busybox that is what
cloud-init's seed says, with a login on the console and a web server."""

from __future__ import annotations

import gzip
import lzma
import os
import platform
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .board import Arch

UBOOT: Final[dict[Arch, Path]] = {
    "aarch64": Path("/usr/lib/u-boot/qemu_arm64/u-boot.bin"),
    "riscv64": Path("/usr/lib/u-boot/qemu-riscv64/u-boot.bin"),
    "x86_64": Path("/usr/lib/u-boot/qemu-x86_64/u-boot.rom"),
}
"""Where Debian's u-boot-qemu has them."""

_MODULES: Final = ("virtio_pci", "virtio_blk", "virtio_net", "nls_ascii", "nls_cp437", "vfat")

_INIT: Final = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts && mount -t devpts pts /dev/pts
for module in $(cat /modules/order); do insmod /modules/$module; done
ip link set lo up
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0

mount -o ro $(findfs LABEL=CIDATA) /seed
said() { sed -n "s/.*\"$2\": \"\([^\"]*\)\".*/\1/p" /seed/$1; }
user=$(said user-data name)
echo "$user:x:1000:1000::/:/bin/sh" >> /etc/passwd
echo "$user:*:1::::::" >> /etc/shadow
password=$(said user-data plain_text_passwd)
printf '%s\n%s\n' "$password" "$password" | passwd "$user"
said meta-data local-hostname > /www/hostname
echo "seed of $(said meta-data instance-id)"

httpd -p 80 -h /www
[ -x /bin/dropbear ] && mkdir -p /etc/dropbear && dropbear -R
while :; do setsid getty -L 0 $(sed 's/.*console=\(tty[A-Z0-9]*\).*/\1/' /proc/cmdline) vt100; done
"""


def missing(arch: Arch) -> str:
    """What a board with U-Boot lacks on this host, "" for nothing: the reason to skip a test."""
    if not all(shutil.which(each) for each in (f"qemu-system-{arch}", "qemu-img")):
        return f"qemu-system-{arch} or qemu-img is not installed"
    return "" if UBOOT[arch].is_file() else "u-boot-qemu is not installed"


def kernel() -> Path | None:
    """Debian's kernel for clouds, the newest that is installed here with its modules, for this host's architecture."""
    suffix = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "none")
    found = [each for each in Path("/boot").glob(f"vmlinuz-*-cloud-{suffix}") if _modules(each).is_dir()]
    return max(found, default=None)


def busybox() -> Path | None:
    """A busybox that needs no libraries."""
    found = shutil.which("busybox")
    # A program that needs libraries names its loader near its beginning.
    return Path(found) if found and b"/ld-" not in Path(found).read_bytes()[:4096] else None


def dropbear() -> Path | None:
    """An ssh server that is small."""
    found = shutil.which("dropbear", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return Path(found) if found else None


def make_initrd(path: Path, image: Path, shell: Path, ssh: Path | None = None) -> None:
    """Write the Linux for a kernel, `image`, with a busybox, `shell`, and a dropbear, `ssh`, to `path`."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        for number, (name, mode, data) in enumerate(_entries(image, shell, ssh), 1):
            file.write(_record(name, mode, data, number))
        file.write(_record("TRAILER!!!", 0, b"", 0))


def _entries(image: Path, shell: Path, ssh: Path | None) -> Iterator[tuple[str, int, bytes]]:
    for name in ("bin", "dev", "etc", "lib", "lib64", "modules", "proc", "seed", "sys", "www"):
        yield name, stat.S_IFDIR | 0o755, b""
    yield "dev/console", stat.S_IFCHR | 0o600, b""
    yield "bin/busybox", stat.S_IFREG | 0o755, shell.read_bytes()
    yield "init", stat.S_IFREG | 0o755, _INIT.encode()
    yield "etc/passwd", stat.S_IFREG | 0o644, b"root:x:0:0::/:/bin/sh\n"
    yield "etc/shadow", stat.S_IFREG | 0o600, b"root:*:1::::::\n"
    if ssh:
        yield "bin/dropbear", stat.S_IFREG | 0o755, ssh.read_bytes()
        for each in _libraries(ssh):
            folder = "lib64" if each.name.startswith("ld-linux-x86-64") else "lib"
            yield f"{folder}/{each.name}", stat.S_IFREG | 0o755, each.read_bytes()
    modules = _in_order(_modules(image))
    for each in modules:
        packed = each.read_bytes()
        yield f"modules/{each.name}", stat.S_IFREG | 0o644, lzma.decompress(packed) if each.suffix == ".xz" else packed
    yield "modules/order", stat.S_IFREG | 0o644, "\n".join(each.name for each in modules).encode()


def _libraries(program: Path) -> list[Path]:
    """The libraries of a program, and its loader."""
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [Path(each) for each in re.findall(r"(/\S+) \(", told)]


def _modules(image: Path) -> Path:
    return Path("/lib/modules") / image.name.removeprefix("vmlinuz-")


def _in_order(folder: Path) -> list[Path]:
    """The modules, each after those that it needs."""
    needs = dict(line.split(":") for line in (folder / "modules.dep").read_text().splitlines())
    paths = {Path(path).name.partition(".")[0]: path for path in needs}
    order = [
        path for name in _MODULES if name in paths for path in (*reversed(needs[paths[name]].split()), paths[name])
    ]
    return [folder / path for path in dict.fromkeys(order)]


def _record(name: str, mode: int, data: bytes, number: int) -> bytes:
    """One file in cpio's "newc" format. The only device is the console's, 5:1."""
    major, minor = (5, 1) if stat.S_ISCHR(mode) else (0, 0)
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % each for each in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
