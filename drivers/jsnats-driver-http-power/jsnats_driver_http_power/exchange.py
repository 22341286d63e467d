"""One HTTP request and its answer: a connection of its own, a deadline, a limit, and errors that say what went wrong.

For every driver whose device is asked by HTTP. An error names the URL without its query, and is not chained to the one
of the HTTP library, whose text has the whole URL: a password may be in it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import requests
import urllib3

LIMIT: Final = 1 << 20
"""More than this, in bytes, is no answer of a power switch."""
_CHUNK: Final = 65536
_SHOWN: Final = 80


def exchange(
    prepared: requests.PreparedRequest, *, timeout_s: float, verify: bool | str, limit: int = LIMIT
) -> tuple[requests.Response, str]:
    """Send a request, and return the answer with its body, whatever its status.

    `verify` is what `verification` makes. Raises TimeoutError when the answer is not complete within `timeout_s`,
    ConnectionError for a broken connection, a certificate that is not trusted, and a body of more than `limit` bytes.
    """
    where = shown(str(prepared.url))
    deadline = time.monotonic() + timeout_s
    try:
        with requests.Session() as session:
            session.trust_env = False  # a device is in the lab: no proxy, and no credentials but the configured
            with session.send(
                prepared, stream=True, timeout=timeout_s, verify=verify, allow_redirects=False
            ) as response:
                return response, _body(response, where, deadline, limit)
    except (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
        raise TimeoutError(f"{where} did not answer within {timeout_s:g} s") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise ConnectionError(f"{where}: {_reason(error)}") from None


def verification(tls_verify: bool | Path) -> bool | str:
    """Return a driver's `tls_verify` as requests takes it: false, or the file of an authority."""
    if tls_verify is False:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # once is in the configuration
    return str(tls_verify) if isinstance(tls_verify, Path) else tls_verify


def shown(url: str) -> str:
    """Return a URL without what may be secret in it."""
    parts = urlsplit(url)
    return parts._replace(query="", fragment="", netloc=parts.netloc.rpartition("@")[2]).geturl()


def short(text: str) -> str:
    """Return the beginning of an answer, for an error."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _body(response: requests.Response, where: str, deadline: float, limit: int) -> str:
    body = b""
    while chunk := response.raw.read1(_CHUNK, decode_content=True):
        body += chunk
        if len(body) > limit:
            raise ConnectionError(f"{where} answered more than {limit >> 20} MiB")
        if time.monotonic() > deadline:
            raise TimeoutError
    return body.decode(errors="replace")


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
