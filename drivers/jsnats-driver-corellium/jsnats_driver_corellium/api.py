"""What a bench asks of Corellium: the devices of a project, their power and their consoles.

Sources: the OpenAPI document of the API, version 7.3.0, as in Corellium's generated clients
(github.com/corellium/python-api-client, package 0.4.0); github.com/corellium/corellium-api 1.9.3 for what the document
leaves out: `userTask`, 429 with Retry-After, the subprotocol of consoles. That `consoles` of an instance have names,
and that a console is asked for by its id as `type`, is known from answers that were recorded
(github.com/jumpstarter-dev/jumpstarter, driver corellium).

The token is an API token, sent as it is with each request: it does not expire, so nothing is logged in or refreshed.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import quote

import requests
from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError

from jsnats_driver_http_power.exchange import exchange, short

LIMIT: Final = 16 << 20
"""More than this, in bytes, is no answer that we asked for."""
UNTOLD_S: Final = 5.0
"""How long to wait after a 429 that does not say it."""

T = TypeVar("T")
Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else str(value))]


class Gone(FileNotFoundError):
    """What was asked for does not exist, or no longer."""


class Conflict(ConnectionError):
    """The device cannot do this now."""


class RateLimited(ConnectionError):
    """Corellium wants to be left alone for `after_s` seconds."""

    def __init__(self, text: str, after_s: float) -> None:
        super().__init__(f"{text}: too many requests, the next one in {after_s:g} s")
        self.after_s = after_s


class ConsoleRecord(BaseModel):
    """A console of an instance."""

    id: str
    name: str


class Instance(BaseModel):
    """A device as Corellium tells it; `task` is what it was told to do and has not begun, `None` most of the time."""

    id: str
    name: Text = ""
    state: str
    task: Any = Field(default=None, alias="userTask")
    error: Text = ""
    consoles: Annotated[list[ConsoleRecord], BeforeValidator(lambda value: value or [])] = []


class Model(BaseModel):
    """A kind of device that can be created."""

    flavor: str
    model: Text = ""


class _Created(BaseModel):
    id: str


class _Endpoint(BaseModel):
    url: str


@dataclass(frozen=True, kw_only=True)
class Api:
    """The API at `host`. Each method is one request, and blocks for `timeout_s` at most; any thread may call.

    Everything raises TimeoutError, PermissionError when the token is refused or may not do this, Gone, Conflict,
    RateLimited, ValueError with Corellium's own words for parameters it does not take, and ConnectionError for all
    else that is wrong.
    """

    host: str
    token: str = field(repr=False)
    timeout_s: float
    verify: bool | str

    def instances(self, project: str) -> list[Instance]:
        """Return the devices of a project, which are there without their consoles."""
        try:
            return self._get(f"projects/{quote(project, safe='')}/instances", list[Instance])
        except Gone as error:
            raise ValueError(f"{self.host} has no project {project}: give the id that its address has") from error

    def instance(self, id: str) -> Instance:  # noqa: A002 - the name in the API
        """Return one device, with its consoles."""
        return self._get(f"instances/{quote(id, safe='')}", Instance)

    def models(self) -> list[Model]:
        """Return what can be created."""
        return self._get("models", list[Model])

    def create(self, *, project: str, name: str, flavor: str, os: str, build: str) -> str:
        """Create a device, which then starts by itself; return its id."""
        body = {"name": name, "project": project, "flavor": flavor, "os": os, "osbuild": build}
        return self._parse(self._send("POST", "instances", json=body), _Created).id

    def start(self, id: str) -> None:  # noqa: A002
        """Switch on."""
        self._send("POST", f"instances/{quote(id, safe='')}/start")

    def stop(self, id: str) -> None:  # noqa: A002
        """Switch off at once, without asking the system that runs in it."""
        self._send("POST", f"instances/{quote(id, safe='')}/stop")

    def unpause(self, id: str) -> None:  # noqa: A002
        """Go on after a pause."""
        self._send("POST", f"instances/{quote(id, safe='')}/unpause")

    def delete(self, id: str) -> None:  # noqa: A002
        """Remove it, and all it stored."""
        self._send("DELETE", f"instances/{quote(id, safe='')}")

    def console_url(self, id: str, console: str) -> str:  # noqa: A002
        """Return the address of a console's websocket, which needs no token beside it and so is a secret."""
        params = {"type": console.removeprefix("port-")}
        url = self._parse(self._send("GET", f"instances/{quote(id, safe='')}/console", params=params), _Endpoint).url
        if not url.startswith("wss://"):
            raise ConnectionError(f"{self.host} gave an address of the console that is not wss://")
        return url

    def _get(self, path: str, kind: type[T]) -> T:
        return self._parse(self._send("GET", path), kind)

    def _send(self, method: str, path: str, **more: Any) -> str:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        request = requests.Request(method, f"https://{self.host}/api/v1/{path}", headers, **more)
        response, text = exchange(request.prepare(), timeout_s=self.timeout_s, verify=self.verify, limit=LIMIT)
        if not response.ok or response.is_redirect:
            raise self._refused(response, text)
        return text

    def _parse(self, text: str, kind: type[T]) -> T:
        try:
            return TypeAdapter(kind).validate_json(text)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(each) for each in fault["loc"])
            told = f"{where}: {fault['msg']}" if where else f"{short(text)}: {fault['msg']}"
            raise ConnectionError(f"{self.host} answered what was not asked for: {told}") from None

    def _refused(self, response: requests.Response, text: str) -> Exception:
        status = response.status_code
        told = f"{self.host} answered {status}: {_reason(text) or response.reason or 'without a reason'}"
        match status:
            case 400 | 422:
                return ValueError(told)
            case 401:
                return PermissionError(f"{told}: is the token right?")
            case 403:
                return PermissionError(told)
            case 404:
                return Gone(told)
            case 409:
                return Conflict(told)
            case 429:
                return RateLimited(f"{self.host} answered 429", _after_s(response.headers.get("Retry-After", "")))
        return ConnectionError(told)


def _reason(text: str) -> str:
    """Return Corellium's own words, with the name of the field if it is about one."""
    try:
        told = json.loads(text)
        words, about = str(told["error"]), told.get("field")
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return f"{words} ({about})" if about else words


def _after_s(told: str) -> float:
    """Return the seconds of a Retry-After, which has them or a date."""
    if told.strip().isdigit():
        return float(told)
    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    except ValueError:
        return UNTOLD_S
