"""A device that is asked by HTTP, and what its answers are. Plugs have room for few connections, so none is kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import requests

from .auth import authenticator
from .config import Auth, Request
from .exchange import exchange, short, shown
from .jsonpath import find


@dataclass(frozen=True)
class Answer:
    """What a device answered; `where` is its URL as errors show it."""

    where: str
    text: str

    def value(self, path: str) -> Any:
        """Return the value at a JSON path; with "" the text itself if it is no JSON. Raises ConnectionError."""
        try:
            return find(json.loads(self.text), path)
        except ValueError:
            if not path:
                return self.text.strip()
            raise ConnectionError(f"{self.where} answered what is no JSON: {short(self.text)}") from None
        except LookupError:
            raise ConnectionError(f"{self.where} answered without {path}: {short(self.text)}") from None

    def number(self, path: str) -> float:
        """Return the number at a JSON path. Raises ConnectionError."""
        value = self.value(path)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConnectionError(f"{self.where} answered {path} {value!r}, which is no number")
        return float(value)

    def check(self, expect: str | dict[str, Any] | None) -> None:
        """Raise ConnectionError unless the answer is as expected."""
        if isinstance(expect, str) and expect not in self.text:
            raise ConnectionError(f"{self.where} answered {short(self.text)}, not {expect!r}")
        for path, wanted in expect.items() if isinstance(expect, dict) else ():
            if (value := self.value(path)) != wanted:
                raise ConnectionError(f"{self.where} answered {path} {value!r}, not {wanted!r}")


class Device:
    """A device with an HTTP interface. For one thread at a time."""

    def __init__(self, auth: Auth | None, timeout_s: float, verify: bool | str) -> None:
        self._exchange = partial(exchange, timeout_s=timeout_s, verify=verify)
        self._auth = authenticator(auth, self._exchange)

    def send(self, request: Request) -> Answer:
        """Ask. Raises TimeoutError, PermissionError when it refuses us, ConnectionError for all else that is wrong."""
        prepared = requests.Request(
            request.method, request.url, request.headers, data=request.body, json=request.json, auth=self._auth
        ).prepare()
        response, text = self._exchange(prepared)
        answer = Answer(shown(request.url), text)
        _check_status(answer, response, request.accept)
        answer.check(request.expect)
        return answer

    def close(self) -> None:
        """Leave the device: a session there is ended."""
        if close := getattr(self._auth, "close", None):
            close()


def _check_status(answer: Answer, response: requests.Response, accept: list[int]) -> None:
    status = response.status_code
    said = f"{answer.where} answered {status} {response.reason or ''}".rstrip()
    if status in (401, 403):
        raise PermissionError(f"{said}: it refuses these credentials" if status == 401 else said)
    if 300 <= status < 400 and status not in accept:
        raise ConnectionError(f"{said}: it is at {shown(response.headers.get('Location', '?'))}")
    if not 200 <= status < 300 and status not in accept:
        raise ConnectionError(f"{said}: {short(answer.text)}")
