"""The user's side of servers of files."""

from __future__ import annotations

import json
import os
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import click

from jsnats.client import DriverClient, Upload
from jsnats.sdk.cli import transfer_line

from .client import OpendalClient
from .commands import storage_commands


class FileServerClient(DriverClient):
    """Client of every server of files. What it serves is `client.storage`, an OpendalClient."""

    @property
    def storage(self) -> OpendalClient:
        """The directory that is served."""
        found = self.children["storage"]
        assert isinstance(found, OpendalClient)
        return found

    def start(self) -> str:
        """Listen, unless it does already, and return the URL of the root."""
        return str(self.call("start_server"))

    def stop(self) -> None:
        """Break off what is being transferred, and do not listen any more."""
        self.call("stop_server")

    def put_file(self, dst: str, src: str | os.PathLike[str]) -> str:
        """Write a file of this machine, or what a handle or an http(s) URL stands for, and return its URL.

        The server runs then. A file that is in the lab's store already is not uploaded again.
        """
        return str(self.call_with_uploads("put_file", dst, Upload(src)))

    def get_url(self, path: str = "") -> str:
        """URL of a file, or of the root. Raises ConnectionError when the server does not run, as the next two do."""
        return str(self.call("get_url", path))

    def get_host(self) -> str:
        """IP address that the device connects to."""
        return str(self.call("get_host"))

    def get_port(self) -> int:
        """Port that the device connects to."""
        return int(self.call("get_port"))

    def cli(self) -> click.Group:
        """Return the commands of `j`: those of the storage, and the server's."""
        base = storage_commands(self.storage)
        base.help = "Serve files to the device under test."
        _add_server(base, self)
        return base


def _add_server(base: click.Group, client: FileServerClient) -> None:
    @base.command()
    @click.argument("src")
    @click.argument("dst", required=False)
    def put(src: str, dst: str | None) -> None:
        """Serve a file of this machine, or of an http(s) URL that the exporter may fetch, as DST; print its URL."""
        with transfer_line("served") as progress:
            url = client.options(on_progress=progress).put_file(dst or _name_of(src), src)
        click.echo(url)

    @base.command()
    def start() -> None:
        """Listen until `stop` or the end of the lease, and print the URL."""
        click.echo(client.start())

    @base.command()
    def stop() -> None:
        """Break off what is being transferred, and do not listen any more."""
        client.stop()

    @base.command()
    @click.argument("path", default="")
    @click.option("--json", "as_json", is_flag=True, help="URL, host and port as JSON.")
    def url(path: str, as_json: bool) -> None:
        """Print the URL of a file, or of all."""
        found = client.get_url(path)
        if as_json:
            found = json.dumps({"url": found, "host": client.get_host(), "port": client.get_port()})
        click.echo(found)


def _name_of(src: str) -> str:
    name = PurePosixPath(urlsplit(src).path if "://" in src else src).name
    if not name:
        raise click.UsageError(f"{src} has no name to serve it under: say DST")
    return name
