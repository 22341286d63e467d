"""What the configuration says about requests: checked when the agent loads it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from .jsonpath import parse

_STRICT = ConfigDict(extra="forbid")


def _known(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # reading the port checks it
        raise ValueError("a URL is http://host[:port]/path or https://host[:port]/path")
    if parts.username is not None:
        raise ValueError("user and password do not belong into a URL: say them in auth")
    return url


def _path(path: str) -> str:
    parse(path)
    return path


Url = Annotated[str, AfterValidator(_known)]
JsonPath = Annotated[str, AfterValidator(_path)]


@dataclass(kw_only=True, config=_STRICT)
class Request:
    """One HTTP request, and what its answer must be.

    `body` is sent as it is, `json` as JSON. A status of 2xx is a success, as are those in `accept`. `expect` is a text
    that the answer must contain, or values that it must have by their JSON path.
    """

    url: Url
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    headers: dict[str, str] = Field(default_factory=dict)
    body: str | None = None
    json: Any = None
    accept: list[int] = Field(default_factory=list)
    expect: str | dict[JsonPath, Any] | None = None

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.body is not None and self.json is not None:
            raise ValueError("give body or json, not both")
        if self.method == "GET" and (self.body is not None or self.json is not None):
            raise ValueError("a GET has no body: give the method, such as POST")
        return self


@dataclass(kw_only=True, config=_STRICT)
class StateRequest(Request):
    """A request for the state: the value at `path` is `is_on` or `is_off`; any other is a state in between."""

    path: JsonPath = ""
    is_on: Any = True
    is_off: Any = False


@dataclass(kw_only=True, config=_STRICT)
class ReadRequest(Request):
    """A request for a reading: V and A by their paths, after multiplication with the scales (0.001 for mA)."""

    voltage_path: JsonPath
    current_path: JsonPath
    voltage_scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    current_scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)


@dataclass(kw_only=True, config=_STRICT)
class Login:
    """User and password."""

    user: str
    password: str = Field(repr=False)


@dataclass(kw_only=True, config=_STRICT)
class Auth:
    """How the device knows us, one of: HTTP basic or digest, a bearer token, user and password in the query (Tasmota),
    a Redfish session."""

    basic: Login | None = None
    digest: Login | None = None
    bearer: str | None = Field(default=None, repr=False, min_length=1)
    query: Login | None = None
    session: Login | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = (self.basic, self.digest, self.bearer, self.query, self.session)
        if sum(each is not None for each in given) != 1:
            raise ValueError("auth is one of basic, digest, bearer, query and session")
        return self
