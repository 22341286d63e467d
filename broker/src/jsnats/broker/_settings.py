"""What a broker was last started with: `broker.json` of a lab's directory."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from ._retention import Keep, Retention


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a broker was last started with. `url` is what new credentials say; `store_bytes` 0 is not chosen yet;
    `retention` is what `jsnats broker retention` was told."""

    server_name: str
    host: str = "127.0.0.1"
    port: int = 4222
    url: str = "nats://127.0.0.1:4222"
    store_bytes: int = 0
    max_file: int = 0
    mqtt: int = 0
    sync: str = ""
    auth: bool = True
    retention: Retention = field(default_factory=dict)

    @classmethod
    def read(cls, data: dict[str, Any]) -> Settings:
        """From what `asdict` made of them, by whichever version of jsnats."""
        known = {each.name for each in fields(cls)}
        kept = {kind: Keep(**keep) for kind, keep in data.get("retention", {}).items()}
        return cls(**{key: value for key, value in data.items() if key in known} | {"retention": kept})
