"""The commands of a debug probe: one for each method of its client, and `gdb`."""

from __future__ import annotations

import json
from threading import Event
from typing import TYPE_CHECKING, Any, get_args

import click

from jsnats.sdk.cli import progress_line, transfer_line
from jsnats_driver_network.adapters import TcpPortforwardAdapter
from jsnats_driver_network.common import place

from .common import BinaryFormat, Width

if TYPE_CHECKING:
    from .client import ProbeRsClient

PER_LINE = 16
"""Bytes of memory in a line of `read`."""


def number(text: str) -> int:
    """A number as people write addresses, decimal or with 0x; the type of an argument."""
    try:
        return int(text, 0)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no number, as 4096 or 0x1000") from None


def probe_commands(client: ProbeRsClient) -> click.Group:
    """The group of them."""

    @click.group
    def base() -> None:
        """Flash, erase, reset, read and debug the target on a debug probe."""

    for each in (_info, _reset, _erase, _download, _read, _attach, _gdb):
        base.add_command(each(client))
    return base


def _info(client: ProbeRsClient) -> click.Command:
    @click.command()
    def info() -> None:
        """Show what is known of probe and target."""
        click.echo(client.info().rstrip())

    return info


def _reset(client: ProbeRsClient) -> click.Command:
    @click.command()
    def reset() -> None:
        """Reset the target, which runs then."""
        client.reset()

    return reset


def _erase(client: ProbeRsClient) -> click.Command:
    @click.command()
    def erase() -> None:
        """Erase all of the target's flash."""
        with progress_line() as progress:
            client.options(on_progress=progress).erase()

    return erase


def _download(client: ProbeRsClient) -> click.Command:
    @click.command()
    @click.option("--binary-format", type=click.Choice(get_args(BinaryFormat)), help="By default told by the image.")
    @click.option("--base-address", type=number, help="Where a raw binary goes; by default the begin of the flash.")
    @click.argument("file")
    def download(file: str, binary_format: BinaryFormat | None, base_address: int | None) -> None:
        """Write an image to flash and verify it: a file, or an http(s) URL that the exporter may fetch."""
        with transfer_line("downloaded") as progress:
            client.options(on_progress=progress).download_file(
                file, binary_format=binary_format, base_address=base_address
            )

    return download


def _read(client: ProbeRsClient) -> click.Command:
    @click.command()
    @click.option("--json", "as_json", is_flag=True, help="Print a JSON list of numbers.")
    @click.argument("width", type=click.Choice([f"b{each}" for each in get_args(Width)]))
    @click.argument("address", type=number)
    @click.argument("words", type=click.IntRange(1))
    def read(width: str, address: int, words: int, as_json: bool) -> None:
        """Print WORDS words of memory from ADDRESS on, as `b32 0x20000000 4`."""
        bits: Any = int(width[1:])
        found = client.read(bits, address, words)
        if as_json:
            click.echo(json.dumps(found))
            return
        count = PER_LINE * 8 // bits
        for begin in range(0, words, count):
            line = " ".join(f"{each:0{bits // 4}x}" for each in found[begin : begin + count])
            click.echo(f"{address + begin * bits // 8:08x}: {line}")

    return read


def _attach(client: ProbeRsClient) -> click.Command:
    @click.command()
    @click.argument("elf", type=click.Path(exists=True, dir_okay=False))
    def attach(elf: str) -> None:
        """Print what the target says over RTT until Ctrl-C; ELF is the program that runs there."""
        for text in client.attach(elf):
            click.echo(text, nl=False)

    return attach


def _gdb(client: ProbeRsClient) -> click.Command:
    @click.command()
    @click.option("--address", default="localhost", show_default=True, help="Local address to listen on.")
    @click.argument("port", type=click.IntRange(0, 65535), default=1337)
    def gdb(address: str, port: int) -> None:
        """Listen on local TCP port PORT (1337; 0: any free one) until Ctrl-C, for `target remote` of a gdb here."""
        with TcpPortforwardAdapter(client=client, local_host=address, local_port=port) as (host, bound):
            click.echo(place(host, bound))
            Event().wait()

    return gdb
