"""The user's side of flashers and storage muxes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

from jsnats.client import DriverClient, Upload
from jsnats.sdk.cli import progress_line, transfer_line

_target = click.option("-t", "--target", help="Part of the device, such as a partition.")


class FlasherClient(DriverClient):
    """Client of every flasher."""

    def flash(self, path: Any, *, target: str | None = None) -> None:
        """Write an image to the device: a path, bytes, a binary file, a handle or an http(s) URL; compressed or not.

        A map of targets to images flashes them one after the other. An image that is in the lab's store already is not
        uploaded again. Raises StorageFull, BlobCorrupt, OSError, and what the device says.
        """
        if not isinstance(path, Mapping):
            self.call_with_uploads("flash", Upload(path), target)
            return
        if target is not None:
            raise ValueError("a map of targets to images has its targets: leave `target` out")
        for each, image in path.items():
            self.flash(image, target=each)

    def dump(self, path: str | os.PathLike[str], *, target: str | None = None) -> None:
        """Save what is on the device to a file."""
        self.download(self.call("dump", target), path)

    def cli(self) -> click.Group:
        """Return the commands of `j`."""

        @click.group
        def base() -> None:
            """Write and read the device."""

        @base.command()
        @click.argument("file")
        @_target
        def flash(file: str, target: str | None) -> None:
            """Write an image: a file, compressed or not, or an http(s) URL that the exporter may fetch."""
            with transfer_line("flashed") as progress:
                self.options(on_progress=progress).flash(file, target=target)

        @base.command()
        @click.argument("file")
        @_target
        def dump(file: str, target: str | None) -> None:
            """Save what is on the device to a file."""
            with progress_line() as progress:
                self.options(on_progress=progress).dump(file, target=target)

        return base


class StorageMuxFlasherClient(FlasherClient):
    """Client of every storage mux."""

    def host(self) -> None:
        """Attach the card to the exporter's host."""
        self.call("host")

    def dut(self) -> None:
        """Attach the card to the device under test."""
        self.call("dut")

    def off(self) -> None:
        """Attach the card to nothing."""
        self.call("off")

    def write_local_file(self, filepath: str | os.PathLike[str]) -> None:
        """Write an image to the card, which is attached to the host."""
        self.call_with_uploads("write", Upload(filepath))

    def read_local_file(self, filepath: str | os.PathLike[str]) -> None:
        """Save what is on the card, which is attached to the host, to a file."""
        self.download(self.call("read"), filepath)

    def cli(self) -> click.Group:
        """Return the commands of `j`."""
        base = super().cli()
        base.help = "Write and read the card, and attach it to the host or to the device."

        @base.command()
        def host() -> None:
            """Attach the card to the exporter's host."""
            self.host()

        @base.command()
        def dut() -> None:
            """Attach the card to the device under test."""
            self.dut()

        @base.command()
        def off() -> None:
            """Attach the card to nothing."""
            self.off()

        @base.command()
        @click.argument("file")
        def write(file: str) -> None:
            """Write an image to the card, which is attached to the host; `flash` does all of it."""
            with transfer_line("wrote") as progress:
                self.options(on_progress=progress).write_local_file(file)

        return base
