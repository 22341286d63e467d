"""One strip in the network: log in, do one thing, log out.

The strip has no API but the web page that people use, and one session at a time, which belongs to the address that
logged in. So a session is short, ends whatever happens in it, and nobody else in this process has one meanwhile:
a second log-in from the same address would share the session, and the first log-out end it for both.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Final, TypeVar
from urllib.parse import urlencode

Result = TypeVar("Result")

RETRY_S = 0.5
"""Between two tries to log in, and between two looks at a socket that has not followed yet."""
MAX_PAGE = 1 << 18
"""Bytes; a page of the strip has some thousand."""

# The words of the page. The states are in a script of each page that is shown to whoever is logged in.
_STATES: Final = re.compile(r"sockstates\s*=\s*\[\s*([01])\s*,\s*([01])\s*,\s*([01])\s*,\s*([01])\s*\]")
_BUSY: Final = "there is an active session with this device"
_LOG_IN: Final = "EnerGenie Web:"
_LOG_OUT: Final = ">Log Out<"

_locks: Final[dict[tuple[str, int], threading.Lock]] = {}


class Refused(ConnectionError):
    """The strip has no session for us, or none any more: to be tried again."""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """The strip at `host`. Each answer, and all tries to get a session, have `timeout_s` seconds.

    Everything raises ConnectionError, TimeoutError, or PermissionError for a wrong password.
    """

    host: str
    port: int
    password: str = field(repr=False)
    timeout_s: float

    def __str__(self) -> str:
        return f"the strip at {f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def states(self) -> tuple[bool, ...]:
        """Return which of the four sockets are on."""
        return self._in_session(self._states)

    def switch(self, slot: int, on: bool) -> None:
        """Switch a socket, 1 to 4, and return when the strip shows it. TimeoutError when it does not follow."""
        self._in_session(partial(self._switch, slot, on))

    def _in_session(self, work: Callable[[], Result]) -> Result:
        with _locks.setdefault((self.host.lower(), self.port), threading.Lock()):
            deadline = time.monotonic() + self.timeout_s
            while True:
                try:
                    with self._session():
                        return work()
                except Refused:
                    if time.monotonic() + RETRY_S > deadline:
                        raise
                time.sleep(RETRY_S)

    @contextmanager
    def _session(self) -> Iterator[None]:
        try:
            self._log_in()
            yield
        except Refused:
            raise  # there is no session of ours to end
        except Exception:
            # The strip may have let us in, whatever became of its answer; what is told is the first error.
            with suppress(OSError):
                self._log_out()
            raise
        self._log_out()

    def _log_in(self) -> None:
        page = self._ask("POST", "/login.html", pw=self.password)
        if _is_log_in(page):
            raise PermissionError(f"{self} refuses the password")
        if _LOG_OUT not in page:
            self._states_of(page)  # a page that is none of the strip's ends here, before anything is switched

    def _log_out(self) -> None:
        with suppress(Refused):  # somebody else has it already
            self._ask("GET", "/login.html")

    def _switch(self, slot: int, on: bool) -> None:
        self._ask("POST", "/", **{f"cte{slot}": str(int(on))})
        deadline = time.monotonic() + self.timeout_s
        while self._states()[slot - 1] is not on:  # its answer to the request may show the old state
            if time.monotonic() > deadline:
                was, told = ("off", "on") if on else ("on", "off")
                raise TimeoutError(f"{self} shows socket {slot} {was}, {self.timeout_s:g} s after it was told {told}")
            time.sleep(RETRY_S)

    def _states(self) -> tuple[bool, ...]:
        page = self._ask("GET", "/energenie.html")
        if _is_log_in(page):
            raise Refused(f"{self} ended the session: is another program of this host logged in?")
        return self._states_of(page)

    def _states_of(self, page: str) -> tuple[bool, ...]:
        if not (found := _STATES.search(page)):
            raise ConnectionError(f"{self} shows a page without the states of sockets: {_excerpt(page)!r}")
        return tuple(state == "1" for state in found.groups())

    def _ask(self, method: str, path: str, **form: str) -> str:
        """Return the page that the strip answers with."""
        try:
            with closing(HTTPConnection(self.host, self.port, timeout=self.timeout_s)) as connection:
                headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
                connection.request(method, path, urlencode(form) if form else None, headers)
                with connection.getresponse() as response:
                    page = self._body(response).decode("latin-1")
        except TimeoutError as error:
            raise TimeoutError(f"{self} did not answer within {self.timeout_s:g} s") from error
        except OSError as error:
            raise ConnectionError(f"cannot speak with {self}: {error.strerror or error}") from error
        except HTTPException as error:
            raise ConnectionError(f"{self} does not speak HTTP: {type(error).__name__}") from error
        if response.status >= 400:
            raise ConnectionError(f"{self} answers {response.status} {_excerpt(response.reason)} to {method} {path}")
        if _BUSY in page:
            raise Refused(f"{self} is busy: somebody else is logged in, and it takes one session at a time")
        return page

    def _body(self, response: HTTPResponse) -> bytes:
        """All of it: one that trickles in or has no end is given up, as one that does not come."""
        deadline, body = time.monotonic() + self.timeout_s, b""
        while piece := response.read1(MAX_PAGE):
            body += piece
            if len(body) > MAX_PAGE:
                raise ConnectionError(f"a page of more than {MAX_PAGE} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError
        return body


def _is_log_in(page: str) -> bool:
    return _LOG_IN in page and not _STATES.search(page)


def _excerpt(text: str) -> str:
    """The first words of it, in one line and without tags."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())[:60]
