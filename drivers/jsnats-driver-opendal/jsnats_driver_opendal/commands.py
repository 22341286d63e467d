"""The commands of a storage: one for each method of its client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from jsnats.sdk.cli import progress_line

if TYPE_CHECKING:
    from .client import OpendalClient

_path = click.argument("path")
_source = click.argument("source")
_target = click.argument("target")


def storage_commands(client: OpendalClient) -> click.Group:
    """The group of them."""

    @click.group
    def base() -> None:
        """Files of a storage."""

    _add_transfers(base, client)
    _add_names(base, client)
    _add_changes(base, client)
    _add_presign(base, client)
    return base


def _add_transfers(base: click.Group, client: OpendalClient) -> None:
    @base.command()
    @_path
    @click.argument("src")
    def write(path: str, src: str) -> None:
        """Write a file of this machine, or an http(s) URL that the exporter may fetch, to PATH."""
        with progress_line() as progress:
            client.options(on_progress=progress).write_from_path(path, src)

    @base.command()
    @_path
    @click.argument("dst", type=click.Path(dir_okay=False))
    def read(path: str, dst: str) -> None:
        """Save PATH to a file of this machine; - is standard output."""
        if dst == "-":
            click.echo(client.read_bytes(path), nl=False)
            return
        with progress_line() as progress:
            client.options(on_progress=progress).read_into_path(path, dst)


def _add_names(base: click.Group, client: OpendalClient) -> None:
    @base.command("list")
    @click.argument("path", default="")
    def list_(path: str) -> None:
        """Print the paths in a directory."""
        for each in client.list(path):
            click.echo(each)

    @base.command()
    @click.argument("path", default="")
    def scan(path: str) -> None:
        """Print the paths below a directory, at any depth."""
        for each in client.scan(path):
            click.echo(each)

    @base.command()
    @_path
    def stat(path: str) -> None:
        """Print what is known of a file or directory, as JSON."""
        click.echo(client.stat(path).model_dump_json(exclude_none=True))

    @base.command("hash")
    @_path
    @click.option("--algo", default="sha256", show_default=True, help="Algorithm, by its name in Python's hashlib.")
    def hash_(path: str, algo: str) -> None:
        """Print the digest of a file, made on the exporter."""
        click.echo(client.hash(path, algo))

    @base.command()
    @_path
    def exists(path: str) -> None:
        """Print true or false; the exit code is 0 or 1."""
        found = client.exists(path)
        click.echo(json.dumps(found))
        if not found:
            raise SystemExit(1)


def _add_changes(base: click.Group, client: OpendalClient) -> None:
    @base.command("copy")
    @_source
    @_target
    def copy(source: str, target: str) -> None:
        """Copy a file."""
        client.copy(source, target)

    @base.command()
    @_source
    @_target
    def rename(source: str, target: str) -> None:
        """Rename a file."""
        client.rename(source, target)

    @base.command()
    @_path
    def create_dir(path: str) -> None:
        """Make a directory, and those above it."""
        client.create_dir(path)

    @base.command()
    @_path
    def delete(path: str) -> None:
        """Remove a file or an empty directory."""
        client.delete(path)

    @base.command()
    @_path
    def remove_all(path: str) -> None:
        """Remove a directory and everything in it."""
        client.remove_all(path)

    @base.command()
    def created() -> None:
        """Print the paths of what was made since the lease began."""
        for each in client.get_created_resources():
            click.echo(each)

    @base.command()
    def capability() -> None:
        """Print what the storage can do, as JSON."""
        click.echo(json.dumps({name: value for name, value in client.capability().items() if value}))


def _add_presign(base: click.Group, client: OpendalClient) -> None:
    expire = click.option("-e", "--expire", default=3600, show_default=True, help="Seconds that it is valid.")

    @base.command()
    @_path
    @expire
    def presign_stat(path: str, expire: int) -> None:
        """Print a request for the metadata of a file, as JSON."""
        click.echo(client.presign_stat(path, expire).model_dump_json())

    @base.command()
    @_path
    @expire
    def presign_read(path: str, expire: int) -> None:
        """Print a request to read a file, as JSON."""
        click.echo(client.presign_read(path, expire).model_dump_json())

    @base.command()
    @_path
    @expire
    def presign_write(path: str, expire: int) -> None:
        """Print a request to write a file, as JSON."""
        click.echo(client.presign_write(path, expire).model_dump_json())
