"""`hooks:` of exporter.yaml: scripts that run before and after each lease, written as Jumpstarter writes them."""

from __future__ import annotations

from typing import Any, Final, get_args

from ._config_nodes import unknown_key_faults
from ._config_yaml import Document, Key
from ._hooks import DEFAULT_TIMEOUT_S, Hook, HookName, OnFailure

_KEYS: Final = ["script", "timeout", "onFailure"]


def hooks_of(document: Document) -> dict[HookName, Hook]:
    """Read them; what is wrong becomes a fault of the document."""
    raw = document.value.get("hooks")
    if raw is not None and not isinstance(raw, dict):
        document.fault(("hooks",), f"must be a map with {' and '.join(get_args(HookName))}")
    raw = raw if isinstance(raw, dict) else {}
    unknown_key_faults(document, ("hooks",), raw, list(get_args(HookName)))
    names: tuple[HookName, ...] = get_args(HookName)
    return {name: _hook(document, ("hooks", name), raw[name]) for name in names if raw.get(name) is not None}


def _hook(document: Document, key: Key, raw: Any) -> Hook:
    if isinstance(raw, str):
        raw = {"script": raw}
    if not isinstance(raw, dict):
        document.fault(key, "must be a script, or a map with script, timeout and onFailure")
        return Hook(script="")
    unknown_key_faults(document, key, raw, _KEYS)
    return Hook(
        script=_script(document, key, raw.get("script")),
        timeout_s=_timeout(document, key, raw.get("timeout", DEFAULT_TIMEOUT_S)),
        on_failure=_policy(document, key, raw.get("onFailure", "warn")),
    )


def _script(document: Document, key: Key, value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value
    document.fault((*key, "script"), "must be the text of a shell script")
    return ""


def _timeout(document: Document, key: Key, value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf"):
        return float(value)
    document.fault((*key, "timeout"), "must be a number of seconds above 0")
    return DEFAULT_TIMEOUT_S


def _policy(document: Document, key: Key, value: Any) -> OnFailure:
    if value in get_args(OnFailure):
        return value  # type: ignore[no-any-return]
    document.fault((*key, "onFailure"), f"must be one of {', '.join(get_args(OnFailure))}")
    return "warn"
