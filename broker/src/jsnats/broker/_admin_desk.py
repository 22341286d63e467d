"""What only an admin may ask: that an exporter is not granted, that it is again, and what people should know of it."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import Any

from jsnats.schemas import Busy, ExporterNote, NoMatch
from jsnats.sdk import Conflict

from . import _ask as ask
from ._desk import TRIES
from ._lab_state import NOTE, LabState
from ._ledger import Change, Ledger
from ._matches import close_to
from ._outbox import Outbox
from ._requests import Verb


class AdminDesk:
    """Serves `verbs`."""

    def __init__(self, lab: LabState, ledger: Ledger, outbox: Outbox) -> None:
        self._lab = lab
        self._ledger = ledger
        self._outbox = outbox

    def verbs(self) -> dict[str, Verb]:
        """Each writes the exporter's note and answers it."""
        return {
            "disable": partial(self._note, "exporter.disabled", True),
            "enable": partial(self._note, "exporter.enabled", False),
            "comment": partial(self._note, "exporter.commented", None),
        }

    async def _note(self, event: str, disabled: bool | None, who: str, fields: ask.Fields) -> dict[str, Any]:
        name, comment = ask.text(fields, "exporter"), ask.text(fields, "comment")
        for _ in range(TRIES):
            if name not in self._lab.trees:
                raise NoMatch(f"the lab has no exporter {name!r}{close_to(name, self._lab.trees)}")
            known = self._lab.notes.get(name, ExporterNote())
            now = self._ledger.mirror.now()
            note = replace(
                known,
                disabled=known.disabled if disabled is None else disabled,
                comment=known.comment if event == "exporter.disabled" and "comment" not in fields else comment,
                by=who,
                since=now,
            )
            try:
                await self._ledger.write(Change(NOTE.key(name), note))
            except Conflict:
                continue
            self._outbox.put(event, name, time=now, by=who, comment=note.comment)
            return asdict(note)
        raise Busy("too many change that at once: try again")
