"""How a request shows who we are."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth, HTTPDigestAuth

from .config import Auth, Login

Exchange = Callable[[requests.PreparedRequest], tuple[requests.Response, str]]

_SESSIONS = "/redfish/v1/SessionService/Sessions"


def authenticator(auth: Auth | None, exchange: Exchange) -> AuthBase | None:
    """Return what adds the credentials to a request; `exchange` is for one that has to log in first."""
    if auth is None:
        return None
    if auth.basic:
        return HTTPBasicAuth(auth.basic.user.encode(), auth.basic.password.encode())
    if auth.digest:
        return HTTPDigestAuth(auth.digest.user, auth.digest.password)
    if auth.query:
        return _Query(auth.query)
    if auth.session:
        return RedfishSession(auth.session, exchange)
    return _Bearer(auth.bearer or "")


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Query(AuthBase):
    def __init__(self, login: Login) -> None:
        self._parameters = {"user": login.user, "password": login.password}

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.prepare_url(str(request.url), self._parameters)
        return request


class RedfishSession(AuthBase):
    """A session at a Redfish service: begun by the first request, ended by `close`.

    A BMC has room for few sessions, so one is used for all requests of a lease. One that the service has dropped
    meanwhile is noticed by its 401, and begun again by the next request.
    """

    def __init__(self, login: Login, exchange: Exchange) -> None:
        self._login = login
        self._exchange = exchange
        self._token = ""
        self._location = ""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token, which an error can prevent: TimeoutError, PermissionError, ConnectionError."""
        if not self._token:
            self._begin(str(request.url))
        request.headers["X-Auth-Token"] = self._token
        request.register_hook("response", self._forget_refused)
        return request

    def close(self) -> None:
        """End the session. Raises OSError when the service cannot be asked; its own timeout ends it then."""
        token, self._token = self._token, ""
        if token:
            headers = {"X-Auth-Token": token}
            self._exchange(requests.Request("DELETE", self._location, headers).prepare())

    def _begin(self, url: str) -> None:
        parts = urlsplit(url)
        base = f"{parts.scheme}://{parts.netloc}"
        body = {"UserName": self._login.user, "Password": self._login.password}
        response, text = self._exchange(requests.Request("POST", base + _SESSIONS, json=body).prepare())
        token, where = response.headers.get("X-Auth-Token", ""), response.headers.get("Location", "")
        if response.status_code == 401:
            raise PermissionError(f"{base}{_SESSIONS} answered 401: it refuses these credentials")
        if not token or not (where := where or _id(text)):
            raise ConnectionError(f"{base}{_SESSIONS} answered {response.status_code} and began no session")
        self._token, self._location = token, where if "://" in where else base + where

    def _forget_refused(self, response: requests.Response, **_options: object) -> None:
        if response.status_code == 401:
            self._token = ""


def _id(text: str) -> str:
    try:
        return str(json.loads(text)["@odata.id"])
    except (ValueError, LookupError, TypeError):
        return ""
