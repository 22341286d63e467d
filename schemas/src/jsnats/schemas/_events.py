"""Events: CloudEvents 1.0 in structured JSON, so that a subscriber over MQTT sees the same as one over NATS.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

from ._codec import decode_json, encode_json
from ._errors import InvalidName, ProtocolError
from ._names import MAX_SUBJECT

LAB_SOURCE: Final = "lab"
"""Where events that belong to no exporter come from."""
_TYPE = re.compile(r"[a-z][a-z0-9_-]{0,62}(\.[a-z0-9][a-z0-9_-]{0,62}){0,7}")
_SOURCE = "/jsnats/"
_PREFIX = "jsnats."


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. `source` is an exporter or `lab`, `type` dotted words such as `lease.granted`.

    `subject` is the path of the driver it is about, "" if it is about none; `time` Unix time in seconds. An event that
    came twice has the same `id`.
    """

    source: str
    type: str
    data: dict[str, Any] = field(default_factory=dict)
    subject: str = ""
    time: float = field(default_factory=time.time)
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    def encode(self) -> bytes:
        """The event as JSON. Raises TypeError for data that cannot travel."""
        content: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.id,
            "source": _SOURCE + self.source,
            "type": _PREFIX + self.type,
            "time": datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds"),
            "datacontenttype": "application/json",
            "data": self.data,
        }
        if self.subject:
            content["subject"] = self.subject
        return encode_json(content)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read an event. Raises ProtocolError for what is none."""
        content = decode_json(body)
        if not isinstance(content, dict):
            raise ProtocolError("an event is a map")
        try:
            return cls(
                id=str(content["id"]),
                source=str(content["source"]).removeprefix(_SOURCE),
                type=str(content["type"]).removeprefix(_PREFIX),
                time=datetime.fromisoformat(str(content["time"])).timestamp(),
                subject=str(content.get("subject", "")),
                data=dict(content.get("data") or {}),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"not an event: {error}") from error


def event_subject(source: str, type_: str) -> str:
    """Where an event is published (stored in EVENTS). Raises InvalidName for a type that cannot be a subject."""
    subject = f"jsnats.event.{source}.{type_}"
    if not _TYPE.fullmatch(type_) or len(subject) > MAX_SUBJECT:
        raise InvalidName(f"event type {type_!r} is not valid: use dotted lower-case words, as in `door.opened`")
    return subject
