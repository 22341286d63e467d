"""What each role may publish and subscribe, generated from the subject table and the readers of the streams."""

from __future__ import annotations

from dataclasses import dataclass

from jsnats.schemas import ADMIN, INTERFACE, LAB, PRESENCE, SCHEDULER, STREAMS, TREE, StreamSpec, grants, read_grants


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subject patterns that a principal may publish to and subscribe. Everything else is denied."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def permissions(role: str, token: str) -> Permissions | None:
    """The permissions of the principal `token` in `role`; None for the admin, who may do everything in the account."""
    if role == ADMIN:
        return None
    publish, subscribe = grants(role, token)
    publish += _scheduler_api() if role == SCHEDULER else read_grants(role, token)
    return Permissions(tuple(dict.fromkeys(publish)), tuple(dict.fromkeys(_open_end(each) for each in subscribe)))


def mqtt_permissions() -> Permissions:
    """What a viewer needs who comes by MQTT: to read, and the deliveries of QoS 1.

    `jsnats/event/#` is a subscription to `jsnats.event` as well as `jsnats.event.>`.
    """
    kinds = ("event", "log", "watch")
    read = [f"jsnats.{kind}{rest}" for kind in kinds for rest in ("", ".>")]
    return Permissions((), (*read, "$MQTT.sub.>"))


def _open_end(pattern: str) -> str:
    """`jsnats.call.rack1.*.>` as `jsnats.call.rack1.>`.

    The broker allows only subscriptions within the pattern, and receivers subscribe the short form. It lets nobody
    see more: no subject ends in between.
    """
    tokens = pattern.split(".")
    if tokens[-1] not in ("*", ">"):
        return pattern
    while tokens[-1] in ("*", ">"):
        tokens.pop()
    return ".".join([*tokens, ">"])


def _scheduler_api() -> list[str]:
    """The scheduler administers our streams and buckets, and none that others keep in the same account."""
    buckets = [spec.subjects for spec in (TREE, INTERFACE, PRESENCE, LAB)]
    return ["$JS.API.INFO", *buckets, *(subject for spec in STREAMS for subject in _stream_api(spec))]


def _stream_api(spec: StreamSpec) -> list[str]:
    return [
        f"$JS.API.STREAM.*.{spec.name}",
        f"$JS.API.STREAM.MSG.*.{spec.name}",
        f"$JS.API.CONSUMER.*.{spec.name}",
        f"$JS.API.CONSUMER.*.{spec.name}.>",
        f"$JS.API.CONSUMER.MSG.NEXT.{spec.name}.*",
        f"$JS.API.DIRECT.GET.{spec.name}",
        f"$JS.API.DIRECT.GET.{spec.name}.>",
    ]
