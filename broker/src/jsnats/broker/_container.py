"""nats-server from a container image, in place of the one of the wheel: for tests against the image that a lab runs.

The container shares network, process numbers and the lab's directory with this host (Linux), so that the same
configuration and the same tests hold.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from typing import Any

from ._config import BrokerConfig
from ._server import BrokerProcess


class Contained:
    """What asyncio's `Process` is to a process; `container` is docker-py's."""

    def __init__(self, container: Any) -> None:
        self._container = container
        container.reload()
        self.pid = int(container.attrs["State"]["Pid"])
        self._ended = asyncio.create_task(asyncio.to_thread(container.wait), name="container's end")

    def terminate(self) -> None:
        """SIGTERM. Raises ProcessLookupError when it has ended."""
        self._signal("SIGTERM")

    def kill(self) -> None:
        """SIGKILL. Raises ProcessLookupError when it has ended."""
        self._signal("SIGKILL")

    def _signal(self, name: str) -> None:
        if self._ended.done():
            raise ProcessLookupError
        self._container.kill(name)

    async def wait(self) -> int:
        """Return its exit code once it has ended."""
        return int((await asyncio.shield(self._ended))["StatusCode"])


class ContainerProcess(BrokerProcess):
    """A BrokerProcess whose servers are containers of `image`, of which nothing is left."""

    def __init__(self, config: BrokerConfig, *, image: str, lock: int | None = None) -> None:
        super().__init__(config, lock=lock)
        self._image = image

    async def _spawn(self) -> Any:
        return Contained(await asyncio.to_thread(self._run))

    def _run(self) -> Any:
        from testcontainers.core.container import DockerContainer

        folder = str(self.config.directory)
        shared = {"network_mode": "host", "pid_mode": "host", "user": f"{os.getuid()}:{os.getgid()}"}
        container = DockerContainer(self._image, command=shlex.join(["-c", f"{folder}/nats.conf"]))
        container.with_volume_mapping(folder, folder, "rw").with_kwargs(**shared, read_only=True, auto_remove=True)
        return container.start().get_wrapped_container()
