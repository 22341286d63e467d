"""Where a lab is restored to: a directory that becomes a lab, or the servers that `jsnats broker config` named.

A directory is filled beside its place and then moved there, so that there is a whole lab or none. The broker, the
scheduler and the system account of a restored lab get new keys; everybody else comes in with his own, as before.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace as altered
from pathlib import Path

from jsnats.schemas import SCHEDULER, ConfigurationError
from jsnats.sdk import Connection, NoResponders

from ._archive import LEAF, Contents, check, read
from ._at_broker import at_broker
from ._backup import Progress
from ._lab_dir import LabDir
from ._lock import running
from ._restore import restore_streams
from ._run import free_port, settings_for
from ._serve_scheduler import SCHEDULER_NAME
from ._server import BrokerProcess
from ._settings import Settings

LOOPBACK, LOCK = "127.0.0.1", "restore.lock"
MEMORY = "256MiB"
"""Without it nats-server took 660 MB for files of 420 MB; with it 120 to 430."""


async def restore_lab(
    path: Path, lab: LabDir, *, replace: bool = False, progress: Progress = lambda done, total: None
) -> tuple[Contents, Path | None]:
    """Make a lab from the archive `path`; return what was in it, and where the lab is now that was there before.

    Raises ConfigurationError for an archive that is not whole, a lab that is there already unless `replace`, and one
    that runs; BrokerUnfit, BrokerUnreachable. Nothing half restored is left behind.
    """
    contents = await asyncio.to_thread(check, path)
    if lab.path.exists() and lab.outside():
        await _restore_outside(path, contents, lab, replace, progress)
        return contents, None
    _check_target(lab, replace)
    with _staging(lab.path) as (staged, lock):
        await _fill(path, contents, staged, lock, progress)
        return contents, _put_in_place(staged.path, lab)


# ---------------------------------------------------------------------- servers outside


async def _restore_outside(path: Path, contents: Contents, lab: LabDir, replace: bool, progress: Progress) -> None:
    outside = lab.outside()
    assert outside
    async with at_broker(lab, "restore") as nc:
        await _refuse_served(nc)
        settings = lab.settings()
        await restore_streams(
            nc,
            path,
            contents,
            settings.store_bytes,
            retention=settings.retention,
            replicas=outside.replicas,
            replace=replace,
            progress=progress,
        )
    await asyncio.to_thread(_bring_people, path, contents, lab)


async def _refuse_served(nc: Connection) -> None:
    try:
        await nc.request(f"jsnats.lease.{nc.token}.who", b"{}")
    except NoResponders:
        return
    raise ConfigurationError(f"a scheduler works at {nc.context.url}: stop `jsnats broker serve` first")


def _bring_people(path: Path, contents: Contents, lab: LabDir) -> None:
    """Who may connect, their context files if the archive has any, and what they may ask for."""
    files = {lab.secret_file(each).relative_to(lab.path).as_posix() for each in lab.admit(contents.lab["principals"])}
    if lab.leaf() is None:
        files.add(LEAF)
    for name, data in read(path):
        if name in files:
            _write_private(lab.path / name, data)
    if contents.lab["policy"] and not lab.policy.exists():
        lab.policy.write_text(contents.lab["policy"])
    if outside := lab.outside():
        lab.configure_outside(outside, lab.settings().store_bytes)
    else:
        lab.move_to(lab.settings())


def _write_private(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)


# ---------------------------------------------------------------------- a directory


@contextmanager
def _staging(target: Path) -> Iterator[tuple[LabDir, int]]:
    """A directory beside the target, and its lock, which the server in it inherits; what is left of it in the end is
    removed."""
    path = target.with_name(f".{target.name}.restoring")
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigurationError(f"cannot restore beside {target}: {error.strerror}") from error
    # Not the lock of a broker: who finds that taken makes its server read the principals again.
    with running(path / LOCK) as lock:
        for each in path.iterdir():  # of a restore that was killed
            if each.name != LOCK:
                shutil.rmtree(each) if each.is_dir() else each.unlink()
        try:
            yield LabDir(path), lock
        finally:
            shutil.rmtree(path, ignore_errors=True)


async def _fill(path: Path, contents: Contents, lab: LabDir, lock: int, progress: Progress) -> None:
    settings = Settings.read(contents.lab["settings"])
    await asyncio.to_thread(lab.init)
    await asyncio.to_thread(lab.add, SCHEDULER, SCHEDULER_NAME)
    lab.save_settings(altered(settings, mqtt=0))
    async with _server(lab, lock) as nc:
        size = lab.settings().store_bytes
        await restore_streams(nc, path, contents, size, retention=settings.retention, progress=progress)
    await asyncio.to_thread(_bring_people, path, contents, lab)
    lab.configure(altered(settings, store_bytes=lab.settings().store_bytes))


@asynccontextmanager
async def _server(lab: LabDir, lock: int) -> AsyncIterator[Connection]:
    """The server of the lab, where nobody finds it."""
    config = lab.configure(settings_for(lab, LOOPBACK, free_port(LOOPBACK), None, True))
    async with BrokerProcess(config, lock=lock, memory=MEMORY), at_broker(lab, "restore") as nc:
        yield nc


def _check_target(lab: LabDir, replace: bool) -> None:
    if os.path.ismount(lab.path):
        raise ConfigurationError(
            f"{lab.path} is a mount point, and cannot be put there as a whole: name a folder in it"
        )
    if lab.exists():
        if not replace:
            raise ConfigurationError(f"there is a lab in {lab.path}: choose another --dir, or see --replace")
        with lab.lock():
            return  # raises if it runs
    if lab.path.exists() and (not lab.path.is_dir() or any(lab.path.iterdir())):
        raise ConfigurationError(f"{lab.path} is not empty: choose another --dir")


def _put_in_place(staged: Path, lab: LabDir) -> Path | None:
    (staged / LOCK).unlink()
    aside = None
    if lab.exists():
        with lab.lock():  # it may not run
            aside = lab.path.with_name(f"{lab.path.name}.before-{time.strftime('%Y%m%dT%H%M%S')}")
            lab.path.rename(aside)
    try:
        staged.rename(lab.path)
    except OSError as error:
        raise ConfigurationError(f"cannot restore to {lab.path}: {error.strerror}") from error
    return aside
