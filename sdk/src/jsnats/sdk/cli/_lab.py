"""`jsnats ls`, `jsnats tree`, `jsnats version`: what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._complete import complete_exporter
from ._options import ContextFile, Json, Nats

if TYPE_CHECKING:
    from jsnats.schemas import NodeRecord, TreeRecord
    from jsnats.sdk import ExporterInfo, Lab


def ls(
    free: Annotated[bool, typer.Option("--free", help="Only those that can be had at once.")] = False,
    selector: Annotated[
        str | None, typer.Option("-l", "--selector", metavar="SELECTOR", help="Only those with these labels.")
    ] = None,
    as_json: Json = False,
    nats: Nats = None,
    context: ContextFile = None,
) -> None:
    """List the exporters of the lab: what state each is in, who holds it, and why it is away.

    Example: jsnats ls --free -l board=rpi4
    """
    from dataclasses import asdict

    from jsnats.schemas import Selector

    from ._output import print_json, print_table
    from ._target import lab_of

    wanted = Selector.parse(selector or "")
    with lab_of(nats, context) as lab:
        all_of_them = lab.exporters()
    found = [
        each for each in all_of_them if wanted.matches({"name": each.name, **each.labels}) and (each.free or not free)
    ]
    if as_json:
        print_json([asdict(each) for each in found], indent=1)
    elif found:
        print_table(("NAME", "STATE", "LABELS", "HOLDER", "DRIVERS", "HOST", "REMARK"), [_row(each) for each in found])
    elif all_of_them:
        typer.echo(f"none of {len(all_of_them)} exporters: see `jsnats ls` and `jsnats queue`", err=True)
    else:
        typer.echo("no exporter has ever joined this lab: start one with `jsnats agent run exporter.yaml`", err=True)


def _row(info: ExporterInfo) -> tuple[str, ...]:
    from ._lease_text import remark, state_text

    return (
        info.name,
        state_text(info),
        labels_text(info.labels) or "-",
        info.holder or "-",
        str(info.drivers),
        info.host or "-",
        remark(info),
    )


def labels_text(labels: dict[str, str]) -> str:
    """`board=rpi4,rack=2`."""
    return ",".join(f"{name}={value}" if value else name for name, value in sorted(labels.items()))


def tree(
    exporter: Annotated[str, typer.Argument(metavar="EXPORTER", autocompletion=complete_exporter)],
    as_json: Json = False,
    nats: Nats = None,
    context: ContextFile = None,
) -> None:
    """Show the drivers of an exporter, and the methods of each with their arguments.

    Example: jsnats tree bench-1
    """
    from ._target import lab_of

    with lab_of(nats, context) as lab:
        record = lab.tree(exporter)
        if as_json:
            _print_tree_json(lab, record)
        else:
            _print_tree(lab, record)


def _print_tree_json(lab: Lab, record: TreeRecord) -> None:
    from dataclasses import asdict

    from ._output import print_json

    content: dict[str, Any] = asdict(record)
    for node in content["nodes"]:
        methods = lab.interface(node["interface"]).methods
        node["methods"] = {name: asdict(method) for name, method in methods.items()}
    print_json(content, indent=1)


def _print_tree(lab: Lab, record: TreeRecord) -> None:
    typer.echo(f"{record.name}  {labels_text(record.labels)}".rstrip())
    for node in record.nodes:
        depth = node.path.count(".") + 1 if node.path else 0
        if node.path:
            typer.echo(f"{'  ' * depth}{_node_text(node)}")
        _print_methods(lab, node, "  " * (depth + 1))


def _node_text(node: NodeRecord) -> str:
    kind = (node.driver or node.client).rpartition(".")[2]
    return f"{node.path.rpartition('.')[2]}  [{kind}]  {node.description}".rstrip()


def _print_methods(lab: Lab, node: NodeRecord, indent: str) -> None:
    from ._describe import first_line, signature

    rows = [
        (signature(name, each), first_line(each.doc)) for name, each in lab.interface(node.interface).methods.items()
    ]
    width = min(72, max((len(text) for text, _ in rows), default=0))
    for text, doc in rows:
        typer.echo(f"{indent}.{text:<{width}}  {doc}".rstrip())


def version(as_json: Json = False) -> None:
    """Print the version of jsnats and of the protocol it speaks.

    Example: jsnats version
    """
    import platform
    from importlib.metadata import version as installed

    from jsnats.schemas import headers

    found = {"jsnats": installed("jsnats"), "protocol": headers.PROTOCOL, "python": platform.python_version()}
    if as_json:
        from ._output import print_json

        print_json(found)
    else:
        typer.echo(f"jsnats {found['jsnats']}, protocol {found['protocol']}, Python {found['python']}")
