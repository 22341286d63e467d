"""`jsnats job`: calls that run, or ran, without their caller."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ._options import ContextFile, Json, Nats

job_app = typer.Typer(help="Follow or end calls that run without their caller.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="ID", help="As `jsnats call --detach` printed it.")]


@job_app.command()
def attach(job_id: JobId, as_json: Json = False, nats: Nats = None, context: ContextFile = None) -> None:
    """Print what the call has yielded or returned, from the first item kept, and follow it to its end.

    Example: jsnats job attach "$(jsnats call bench-1.dut.power.read --detach)"
    """
    from contextlib import closing

    from ._output import print_item
    from ._target import lab_of

    with lab_of(nats, context) as lab:
        opened: Any = lab.job(job_id).items()
        with closing(opened) as items:
            for item in items:
                print_item(item, as_json)


@job_app.command()
def status(job_id: JobId, as_json: Json = False, nats: Nats = None, context: ContextFile = None) -> None:
    """Print whether the call is `running` or `done`.

    Example: jsnats job status bench-1.0123456789abcdef0123456789abcdef
    """
    _ask(job_id, "state", as_json, nats, context)


@job_app.command()
def cancel(job_id: JobId, as_json: Json = False, nats: Nats = None, context: ContextFile = None) -> None:
    """End the call, and print the state it was in.

    Example: jsnats job cancel bench-1.0123456789abcdef0123456789abcdef
    """
    _ask(job_id, "cancel", as_json, nats, context)


def _ask(job_id: str, verb: str, as_json: bool, nats: Nats, context: ContextFile) -> None:
    from ._output import print_json
    from ._target import lab_of

    with lab_of(nats, context) as lab:
        job = lab.job(job_id)
        work = job.cancel() if verb == "cancel" else job.state()
        state = lab.inner.bridge.run(work) if lab.inner.bridge else ""
    print_json({"job": job_id, "state": state}) if as_json else typer.echo(state)
