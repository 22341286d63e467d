"""Files among the arguments of a command: uploaded under a bar, before the call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jsnats.client import Channel, Upload
from jsnats.client._uploads import uploaded, with_uploads
from jsnats.schemas import NodeRecord
from jsnats.sdk import Options

from ._arguments import Arguments
from ._progress import transfer_bar


def call_once(channel: Channel, node: NodeRecord, name: str, given: Arguments, options: Options) -> Any:
    """Make a call; files are uploaded first, and once more if the store's copy was damaged."""

    async def call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return await channel.call(node, name, args, kwargs, options)

    if not _has_files(given):
        return channel.run(call(given.args, given.kwargs))
    return channel.run(with_uploads(channel.lab.blobs, given.args, given.kwargs, call, transfer_bar))


def send_files(channel: Channel, given: Arguments) -> Arguments:
    """The arguments with the handles of files that were uploaded."""
    if not _has_files(given):
        return given
    return Arguments(*channel.run(uploaded(channel.lab.blobs, given.args, given.kwargs, transfer_bar)))


def _has_files(given: Arguments) -> bool:
    return any(isinstance(each, Upload) for each in (*given.args, *given.kwargs.values()))
