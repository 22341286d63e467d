"""The user's side of a debug probe: never imports the driver."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Any

import click

from jsnats.client import DriverClient, Upload

from .common import BinaryFormat, Width


class ProbeRsClient(DriverClient):
    """Client of a debug probe. Its methods raise ConnectionError, OSError, TimeoutError with what probe-rs said.

    gdb reaches the target by `TcpPortforwardAdapter(client=probe)`, or by any other adapter of byte streams.
    """

    def info(self) -> str:
        """Return what probe-rs finds out about probe and target."""
        return str(self.call("info"))

    def reset(self) -> None:
        """Reset the target, which runs then."""
        self.call("reset_target")

    def erase(self) -> None:
        """Erase all of the target's flash."""
        self.call("erase")

    def download_file(
        self, filepath: Any, *, binary_format: BinaryFormat | None = None, base_address: int | None = None
    ) -> None:
        """Write an image to flash and verify it: a path, bytes, a binary file, a handle or an http(s) URL.

        The format is told by the image; raw binaries go to `base_address`, by default the begin of the flash.
        """
        self.call_with_uploads("download", Upload(filepath), binary_format, base_address)

    def read(self, width: Width, address: int, words: int) -> list[int]:
        """Return words of `width` bits from the target's memory."""
        return [int(each) for each in self.call("read", width, address, words)]

    def attach(self, elf: Any) -> Generator[str, None, None]:
        """Yield what the running target says over RTT, until the loop is left. `elf` is the program that runs."""
        with closing(self.streamingcall("attach", self.upload(elf))) as pieces:
            yield from pieces

    def cli(self) -> click.Group:
        """Return the commands of `j`."""

        from .commands import probe_commands

        return probe_commands(self)
