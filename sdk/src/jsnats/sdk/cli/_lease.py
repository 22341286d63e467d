"""`jsnats lease` and `jsnats queue`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._complete import complete_lease
from ._lease_options import For, Note, NoWait, Priority, Selectors, Wait, asked_for
from ._options import ContextFile, Json, Nats

if TYPE_CHECKING:
    from jsnats.sdk import AsyncLab, LeaseInfo, WaitInfo, Wanted

lease_app = typer.Typer(help="Take boards, keep them, hand them on.", no_args_is_help=True)

LeaseId = Annotated[
    str, typer.Argument(metavar="ID", help="The id of a lease, or its beginning.", autocompletion=complete_lease)
]


@lease_app.command()
def create(
    selector: Selectors,
    duration: For = None,
    priority: Priority = None,
    wait: Wait = None,
    no_wait: NoWait = False,
    begin: Annotated[
        str | None, typer.Option(metavar="TIME", help="Book it from then on: 22:30, 2026-01-31T08:00 or, from now, 2h.")
    ] = None,
    note: Note = None,
    as_json: Json = False,
    nats: Nats = None,
    context: ContextFile = None,
) -> None:
    """Take exporters, one for each -l, and print the id of the lease and their names when they are ready.

    The lease lasts until its end, or until `jsnats lease release`. Ctrl-C or SIGTERM gives the place in the queue up.

    Example: jsnats lease create -l board=rpi4 --duration 1h --wait 10m
    """
    import asyncio

    from ._shell import until_signal

    asked = asked_for(
        selector, tether_s=0.0, duration=duration, priority=priority, wait=wait, no_wait=no_wait, note=note
    )
    if begin:
        _print_made(_with_lab(nats, context, lambda lab: _book(lab, asked, begin)), as_json)
        return
    # Nobody renews it: whoever is cancelled while it waits, by whatever signal, must give the place up himself.
    raise typer.Exit(asyncio.run(until_signal(_take(asked, as_json, nats, context))))


def _print_made(made: dict[str, Any], as_json: bool) -> None:
    from ._output import print_json

    if as_json:
        print_json(made)
        return
    print(made["id"], *made["boards"], flush=True)
    if made["end"]:
        print(_times(made), file=sys.stderr)


def _times(made: dict[str, Any]) -> str:
    from .._moment import clock

    begin = f"from {clock(made['begin'])} " if "begin" in made else ""
    return f"{begin}until {clock(made['end'])}"


async def _take(asked: Wanted, as_json: bool, nats: str | None, context: Path | None) -> int:
    from jsnats.sdk import AsyncLease, connect_async, find_context

    from ._lease_wait import waiting

    async with connect_async(context=find_context(nats, context)) as lab:
        lease = AsyncLease(lab, asked)
        async with waiting(lab, lease):
            await lease.take()
        made = {"id": lease.id, "state": "active", "boards": list(lease.boards), "end": lease.end or None}
        await lease.stop()
    _print_made(made, as_json)
    return 0


async def _book(lab: AsyncLab, asked: Wanted, begin: str) -> dict[str, Any]:
    import secrets

    from jsnats.sdk import LeaseDesk, moment_of

    now = (await lab.snapshot()).now
    fields = asked.fields() | {"begin": moment_of(begin, now)}
    return await LeaseDesk(lab.connection).own("create", id=secrets.token_hex(8), **fields)


@lease_app.command("ls")
def list_leases(as_json: Json = False, nats: Nats = None, context: ContextFile = None) -> None:
    """List who holds which exporters and until when, and what is booked.

    Example: jsnats lease ls
    """
    from dataclasses import asdict

    from ._lease_text import LEASE_HEAD, lease_row
    from ._output import print_json, print_table

    found = _with_lab(nats, context, lambda lab: lab.leases())
    if as_json:
        print_json([asdict(each) for each in found], indent=1)
    elif not found:
        typer.echo("nobody holds an exporter: `jsnats shell -l board=...` takes one", err=True)
    else:
        print_table(LEASE_HEAD, [lease_row(each) for each in found])


def queue(as_json: Json = False, nats: Nats = None, context: ContextFile = None) -> None:
    """List who waits for exporters, in the order in which they are served.

    POS counts those who want the same exporters; STARTS is the latest time, for leases may end early.

    Example: jsnats queue
    """
    from dataclasses import asdict

    from ._lease_text import QUEUE_HEAD, wait_row
    from ._output import print_json, print_table

    found = _with_lab(nats, context, lambda lab: lab.queue())
    if as_json:
        print_json([asdict(each) for each in found], indent=1)
    elif not found:
        typer.echo("nobody waits", err=True)
    else:
        print_table(QUEUE_HEAD, [wait_row(each) for each in found])


@lease_app.command()
def show(lease: LeaseId, as_json: Json = False, nats: Nats = None, context: ContextFile = None) -> None:
    """Show everything about a lease, a booking or a wait.

    Example: jsnats lease show 6f2a
    """
    from dataclasses import asdict

    from ._output import print_json

    fields = asdict(_with_lab(nats, context, lambda lab: _find(lab, lease)))
    if as_json:
        print_json(fields, indent=1)
        return
    for name, value in fields.items():
        print(f"{name + ':':<12} {_shown(name, value)}")


def _shown(name: str, value: Any) -> str:
    from .._moment import clock
    from ._lease_text import duration_text

    if value is None or value in ("", []):
        return "-"
    if name in ("begin", "end", "start", "asked", "until"):
        return clock(value) if value else "-"
    if name in ("remaining", "waits", "tether", "duration"):
        return duration_text(value)
    return ", ".join(value) if isinstance(value, list) else str(value)


@lease_app.command(context_settings={"ignore_unknown_options": True})
def extend(
    lease: LeaseId,
    by: Annotated[str | None, typer.Argument(metavar="TIME", help="How much longer; -10m is shorter.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="The new end: 22:30, 2026-01-31T08:00.")] = None,
    as_json: Json = False,
    nats: Nats = None,
    context: ContextFile = None,
) -> None:
    """Move the end of a lease, and print the new one.

    Example: jsnats lease extend 6f2a 30m
    """
    from jsnats.schemas import ConfigurationError

    from .._moment import clock
    from ._output import print_json

    if (by is None) == (until is None):
        raise ConfigurationError("say either how much longer, as in 30m or -10m, or --until TIME")
    id_, end = _with_lab(nats, context, lambda lab: _extend(lab, lease, by, until))
    print_json({"id": id_, "end": end}) if as_json else print(f"until {clock(end)}")


async def _extend(lab: AsyncLab, lease: str, by: str | None, until: str | None) -> tuple[str, float]:
    from jsnats.schemas import ConfigurationError
    from jsnats.sdk import LeaseDesk, LeaseInfo, moment_of, signed_seconds

    snapshot = await lab.snapshot()
    found = await _find(lab, lease)
    if not isinstance(found, LeaseInfo):
        raise ConfigurationError(f"{found.id} still waits: it has no end yet")
    end = moment_of(until, snapshot.now) if until else found.end + signed_seconds(by or "0")
    answer = await LeaseDesk(lab.connection).any("extend", id=found.id, end=end)
    return found.id, float(answer["end"])


@lease_app.command()
def transfer(
    lease: LeaseId,
    user: Annotated[str, typer.Argument(metavar="USER", help="Who has it from now on.")],
    as_json: Json = False,
    nats: Nats = None,
    context: ContextFile = None,
) -> None:
    """Give a lease to another user. It lasts until its end then, whoever's process ends.

    Example: jsnats lease transfer 6f2a bob
    """
    from jsnats.schemas import escape_user

    _change(lease, "transfer", {"to": escape_user(user)}, as_json, nats, context)


@lease_app.command()
def share(
    lease: LeaseId,
    users: Annotated[list[str] | None, typer.Argument(metavar="USER...", help="Nobody: only the holder.")] = None,
    as_json: Json = False,
    nats: Nats = None,
    context: ContextFile = None,
) -> None:
    """Say who may use the exporters beside the holder; who is not named may not any more.

    Example: jsnats lease share 6f2a bob carol
    """
    from jsnats.schemas import escape_user

    _change(lease, "share", {"users": [escape_user(user) for user in users or ()]}, as_json, nats, context)


@lease_app.command()
def release(
    lease: LeaseId,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the holder to read.")] = None,
    as_json: Json = False,
    nats: Nats = None,
    context: ContextFile = None,
) -> None:
    """End a lease, a booking or a wait.

    Example: jsnats lease release 6f2a
    """
    _change(lease, "release", {"reason": reason} if reason else {}, as_json, nats, context)


def _change(lease: str, verb: str, fields: dict[str, Any], as_json: bool, nats: Nats, context: ContextFile) -> None:
    from jsnats.sdk import LeaseDesk

    from ._output import print_json

    async def change(lab: AsyncLab) -> dict[str, Any]:
        found = await _find(lab, lease)
        return {"id": found.id} | await LeaseDesk(lab.connection).any(verb, id=found.id, **fields)

    answer = _with_lab(nats, context, change)
    if as_json:
        print_json(answer)


async def _find(lab: AsyncLab, lease: str) -> LeaseInfo | WaitInfo:
    from ._lease_find import find_lease

    return find_lease(await lab.snapshot(), lease)


def _with_lab(nats: str | None, context: Path | None, work: Any) -> Any:
    from ._target import lab_of

    with lab_of(nats, context) as lab:
        assert lab.inner.bridge
        return lab.inner.bridge.run(work(lab.inner))
