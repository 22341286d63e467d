"""One exchange with a device: a connection of its own, a deadline, a limit, and errors that say what went wrong.

Plugs have room for few connections, so none is kept. An error names the URL without its query, and is not chained to
the one of the HTTP library, whose text has the whole URL: a password may be in it.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import urllib3

from .auth import authenticator
from .config import Auth, Request
from .jsonpath import find

LIMIT: Final = 1 << 20
"""More than this, in bytes, is no answer of a power switch."""
_CHUNK: Final = 65536
_SHOWN: Final = 80


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
            raise ConnectionError(f"{self.where} answered what is no JSON: {_short(self.text)}") from None
        except LookupError:
            raise ConnectionError(f"{self.where} answered without {path}: {_short(self.text)}") from None

    def number(self, path: str) -> float:
        """Return the number at a JSON path. Raises ConnectionError."""
        value = self.value(path)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConnectionError(f"{self.where} answered {path} {value!r}, which is no number")
        return float(value)

    def check(self, expect: str | dict[str, Any] | None) -> None:
        """Raise ConnectionError unless the answer is as expected."""
        if isinstance(expect, str) and expect not in self.text:
            raise ConnectionError(f"{self.where} answered {_short(self.text)}, not {expect!r}")
        for path, wanted in expect.items() if isinstance(expect, dict) else ():
            if (value := self.value(path)) != wanted:
                raise ConnectionError(f"{self.where} answered {path} {value!r}, not {wanted!r}")


class Device:
    """A device with an HTTP interface. For one thread at a time."""

    def __init__(self, auth: Auth | None, timeout_s: float, verify: bool | str) -> None:
        self._timeout_s = timeout_s
        self._verify = verify
        self._auth = authenticator(auth, self._exchange)
        if verify is False:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # once is in the configuration

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

    def _exchange(self, prepared: requests.PreparedRequest) -> tuple[requests.Response, str]:
        where = shown(str(prepared.url))
        deadline = time.monotonic() + self._timeout_s
        try:
            with requests.Session() as session:
                session.trust_env = False  # a device is in the lab: no proxy, and no credentials but the configured
                with session.send(
                    prepared, stream=True, timeout=self._timeout_s, verify=self._verify, allow_redirects=False
                ) as response:
                    return response, _body(response, where, deadline)
        except (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
            raise TimeoutError(f"{where} did not answer within {self._timeout_s:g} s") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise ConnectionError(f"{where}: {_reason(error)}") from None


def _body(response: requests.Response, where: str, deadline: float) -> str:
    body = b""
    while chunk := response.raw.read1(_CHUNK, decode_content=True):
        body += chunk
        if len(body) > LIMIT:
            raise ConnectionError(f"{where} answered more than {LIMIT >> 20} MiB")
        if time.monotonic() > deadline:
            raise TimeoutError
    return body.decode(errors="replace")


def _check_status(answer: Answer, response: requests.Response, accept: list[int]) -> None:
    status = response.status_code
    said = f"{answer.where} answered {status} {response.reason or ''}".rstrip()
    if status in (401, 403):
        raise PermissionError(f"{said}: it refuses these credentials" if status == 401 else said)
    if 300 <= status < 400 and status not in accept:
        raise ConnectionError(f"{said}: it is at {shown(response.headers.get('Location', '?'))}")
    if not 200 <= status < 300 and status not in accept:
        raise ConnectionError(f"{said}: {_short(answer.text)}")


def shown(url: str) -> str:
    """Return a URL without what may be secret in it."""
    parts = urlsplit(url)
    return parts._replace(query="", fragment="", netloc=parts.netloc.rpartition("@")[2]).geturl()


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _reason(error: BaseException | None) -> str:
    """Return what the operating system or TLS said; a library's own text may have the whole URL."""
    found: BaseException | None = None
    while error is not None:
        if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
            found = error
        error = error.__cause__ or error.__context__
    if isinstance(found, OSError):
        return found.strerror or str(found)
    return "the connection broke, or this is no HTTP"
