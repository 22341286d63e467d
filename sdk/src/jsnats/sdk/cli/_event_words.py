"""Events in words: one line for each, which a terminal may be shown. What an event lacks is left out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from jsnats.schemas import Event

from .._claim import said_by
from .._duration import duration_text
from ._console_output import plain

Data = Mapping[str, Any]


def words(event: Event) -> str:
    """What happened, without where and when."""
    say = _WORDS.get(event.type)
    try:
        text = say(event.data) if say else _other(event)
    except (TypeError, ValueError, KeyError, OverflowError):  # not as the contract has it: shown as it is
        text = _other(event)
    return one_line(text)


def place(event: Event) -> str:
    """`bench-1.dut.power`."""
    return one_line(f"{event.source}.{event.subject}" if event.subject else event.source)


def stamp(moment: float) -> str:
    """Date and time of day, local."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def one_line(text: str) -> str:
    """Text of others: without line breaks, and nothing that a terminal acts on."""
    return " ".join(plain(text.encode(errors="replace")).split())


def call_words(data: Data) -> str:
    """`cycle(wait=2.0, image)`, or `cycle(wait, image) x3`: values are those of the last call."""
    count = int(data.get("count", 1))
    told = dict(data.get("arguments") or {})
    arguments = ", ".join(told if count > 1 else [_argument(name, what) for name, what in told.items()])
    return f"{data['method']}({arguments})" + (f" x{count}" if count > 1 else "")


def failure(data: Data) -> str:
    """` (failed: DriverTimeout)`, or nothing."""
    if data.get("outcome") == "cancelled":
        return " (cancelled)"
    return f" (failed: {data['error']})" if data.get("error") else ""


def _argument(name: str, told: Any) -> str:
    return f"{name}={json.dumps(told['value'])}" if "value" in told else name


def _other(event: Event) -> str:
    fields = " ".join(f"{name}={_short(value)}" for name, value in event.data.items())
    return f"{event.type.removeprefix('driver.')} {fields}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _for(data: Data, name: str = "seconds") -> str:
    return f" after {duration_text(float(data[name]))}" if data.get(name) else ""


def _by(data: Data, but: str = "") -> str:
    return f" by {data['by']}" if data.get("by") and data["by"] != but else ""


def _why(data: Data, name: str = "reason") -> str:
    return f": {data[name]}" if data.get(name) else ""


def _until(data: Data) -> str:
    return f" until {stamp(float(data['end']))}" if data.get("end") else ""


def _waits(data: Data) -> str:
    what = " and ".join(data.get("selectors") or data.get("boards") or ["an exporter"])
    length = f", for {duration_text(float(data['duration']))}" if data.get("duration") else ""
    priority = f", priority {data['priority']}" if data.get("priority") else ""
    return f"{data['user']} waits for {what}{length}{priority}{_why(data, 'note')}"


def _booked(data: Data) -> str:
    boards = ", ".join(data.get("boards") or data.get("selectors") or [])
    return f"{data['user']} has booked {boards}{_why(data, 'note')}"


def _granted(data: Data) -> str:
    waited = f", after a wait of {duration_text(float(data['waited']))}" if float(data.get("waited") or 0) >= 1 else ""
    return f"{data['holder']} gets it{_until(data)}{waited}"


def _ended(data: Data) -> str:
    return f"the lease of {data['holder']} ended{_for(data, 'held')}{ended_why(data.get('reason'), data.get('by'))}"


def ended_why(reason: str | None, by: str | None) -> str:
    """`: released by ann`, or nothing."""
    text = said_by(reason or "", by) if by else reason
    return f": {text}" if text else ""


def _commented(data: Data) -> str:
    return f"comment{_by(data)}{_why(data, 'comment')}" if data.get("comment") else f"comment taken back{_by(data)}"


def _finished(data: Data) -> str:
    seconds = float(data.get("seconds") or 0)
    took = f", {duration_text(seconds)}" if seconds >= 0.05 else ""
    return f"{data['user']} called {call_words(data)}{failure(data)}{took}"


def _hook_finished(data: Data) -> str:
    code = f", exit code {data['code']}" if data.get("code") else ""
    return f"hook {data['hook']} {data.get('outcome') or 'ended'}{_for(data)}{code}"


def _online(data: Data) -> str:
    host = f" on {data['host']}" if data.get("host") else ""
    return f"online{host}" + (f", version {data['version']}" if data.get("version") else "")


_WORDS: dict[str, Callable[[Data], str]] = {
    "exporter.online": _online,
    "exporter.offline": lambda data: f"offline{_why(data)}",
    "exporter.stuck": lambda data: f"stuck{_why(data)}",
    "exporter.disabled": lambda data: f"disabled{_by(data)}{_why(data, 'comment')}",
    "exporter.enabled": lambda data: f"enabled{_by(data)}{_why(data, 'comment')}",
    "exporter.commented": _commented,
    "exporter.events-lost": lambda data: f"{data['count']} events lost: the broker was away for too long",
    "lease.waiting": _waits,
    "lease.booked": _booked,
    "lease.given-up": lambda data: f"{data['user']} waits no more{_why(data)}{_by(data, data['user'])}",
    "lease.granted": _granted,
    "lease.ready": lambda data: f"ready for {data['holder']}",
    "lease.extended": lambda data: f"the lease of {data['holder']} goes on{_until(data)}{_by(data, data['holder'])}",
    "lease.shared": lambda data: f"{data['holder']} shares it with {', '.join(data['co_holders']) or 'nobody'}",
    "lease.transferred": lambda data: f"the lease of {data['holder']} goes to {data['to']}{_by(data, data['holder'])}",
    "lease.ended": _ended,
    "lease.torn-down": lambda data: f"torn down{_for(data)}{_why(data)}",
    "hook.started": lambda data: f"hook {data['hook']} runs",
    "hook.finished": _hook_finished,
    "call.started": lambda data: f"{data['user']} calls {call_words(data)}: goes on for more than a second",
    "call.finished": _finished,
    "console.marker": lambda data: f"--- {data['text']} ---" if data.get("text") else f"--- {data['marker']} ---",
}
