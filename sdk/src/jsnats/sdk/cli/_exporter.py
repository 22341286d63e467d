"""`jsnats exporter`: what an admin says of exporters."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ._complete import complete_exporter
from ._options import ContextFile, Json, Nats

exporter_app = typer.Typer(help="Take exporters out of the lab and back, as an admin.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_exporter)]
Text = Annotated[str | None, typer.Argument(metavar="TEXT", help="Why, for everybody to read in `jsnats ls`.")]


@exporter_app.command()
def disable(
    exporter: Name, comment: Text = None, as_json: Json = False, nats: Nats = None, context: ContextFile = None
) -> None:
    """Let nobody have an exporter from now on. Who holds it keeps it to the end.

    Example: jsnats exporter disable bench-1 'fan is broken'
    """
    _say("disable", exporter, comment, as_json, nats, context)


@exporter_app.command()
def enable(
    exporter: Name, comment: Text = None, as_json: Json = False, nats: Nats = None, context: ContextFile = None
) -> None:
    """Let it be had again.

    Example: jsnats exporter enable bench-1
    """
    _say("enable", exporter, comment, as_json, nats, context)


@exporter_app.command("comment")
def comment_on(
    exporter: Name, comment: Text = None, as_json: Json = False, nats: Nats = None, context: ContextFile = None
) -> None:
    """Say something about an exporter; without TEXT, take back what was said.

    Example: jsnats exporter comment bench-1 'the new revision'
    """
    _say("comment", exporter, comment or "", as_json, nats, context)


def _say(verb: str, exporter: str, comment: str | None, as_json: bool, nats: Nats, context: ContextFile) -> None:
    from jsnats.schemas import AccessDenied, check_name
    from jsnats.sdk import LeaseDesk

    from ._output import print_json
    from ._target import lab_of

    fields: dict[str, Any] = {"exporter": check_name(exporter, "exporter name")}
    if comment is not None:
        fields["comment"] = comment
    with lab_of(nats, context) as lab:
        assert lab.inner.bridge
        try:
            answer = lab.inner.bridge.run(LeaseDesk(lab.inner.connection).admin(verb, **fields))
        except AccessDenied as error:
            advice = "--context FILE names the credential of one, which `jsnats auth add admin NAME` makes"
            raise AccessDenied(f"only an admin may {verb} an exporter: {advice}") from error
    if as_json:
        print_json(answer)
