"""The errors of jsnats: one tree, and the catalogue that maps each to its wire code.

    JsnatsError
    |- ConfigurationError (ValueError)     a file, option or argument of ours is wrong; nothing was sent
    |  `- InvalidName                      a name that cannot be a subject token
    |- BrokerError (ConnectionError)       this side and the broker
    |  |- BrokerUnreachable                no broker answers at that address
    |  |- BrokerUnfit                      too old, no JetStream, or not provisioned
    |  |- AccessDenied (PermissionError)   the credential is wrong or lacks the permission
    |  `- ProtocolError                    a message that breaks the protocol was received
    `- CallError                           a call did not give a result
       |- InvalidArgument (ValueError)     400
       |- MethodNotFound (LookupError)     404
       |- DeadlineExceeded (TimeoutError)  408  refused as late, or cancelled by its deadline
       |- OutcomeUnknown                   409  it may or may not have run
       |- BlobNotFound (LookupError)       410
       |- BlobIncomplete                   411
       |- TooLarge (ValueError)            413
       |- BlobCorrupt (ValueError)         422
       |- LeaseRequired (PermissionError)  423
       |- LeaseNotFound (LookupError)      424
       |- LeaseLost                        425
       |- VersionMismatch                  426
       |- NoMatch (LookupError)            427
       |- PolicyDenied (PermissionError)   428
       |- Busy                             429
       |- CallCancelled                    499
       |- ExporterOffline (ConnectionError) 503
       |- StorageFull (OSError)            507
       `- DriverError                      500  raised by the driver itself
          |- DriverValueError (ValueError)            520
          |- DriverNotImplemented (NotImplementedError) 521
          |- DriverTimeout (TimeoutError)             522
          |- DriverConnectionError (ConnectionError)  523
          `- DriverOSError (OSError)                  524

Every CallError may come from either side; `path` and `method` say which call it was. An error that also is a
builtin can be caught as that builtin, so `except TimeoutError` works on both sides of the wire.
"""

from __future__ import annotations

from typing import Any, ClassVar


class JsnatsError(Exception):
    """Base of everything jsnats raises on purpose. `str()` is one line that says what to do."""

    exit_code: ClassVar[int] = 1


class ConfigurationError(JsnatsError, ValueError):
    """A configuration is wrong. `faults` holds one line for each thing found."""

    exit_code = 2

    def __init__(self, message: str, faults: list[str] | None = None) -> None:
        super().__init__(message)
        self.faults = faults or [message]


class InvalidName(ConfigurationError):
    """A name that cannot be a token of a subject."""


class BrokerError(JsnatsError, ConnectionError):
    """Something between this process and the broker."""

    exit_code = 3


class BrokerUnreachable(BrokerError):
    """No broker answers."""


class BrokerUnfit(BrokerError):
    """A broker that cannot carry a lab: too old, without JetStream, or not provisioned."""


class AccessDenied(BrokerError, PermissionError):
    """The broker refused the credential, or the credential lacks a permission."""

    exit_code = 4


class ProtocolError(BrokerError):
    """A message that the protocol does not allow."""


class CallError(JsnatsError):
    """A call gave no result. `path` is the driver's ("dut.power"), `method` the method's name."""

    code: ClassVar[int] = 500
    exit_code = 1

    def __init__(self, message: str, *, path: str = "", method: str = "", detail: Any = None) -> None:
        super().__init__(message)
        self.path = path
        self.method = method
        self.detail = detail

    @property
    def message(self) -> str:
        """The message alone, without path and method."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        where = ".".join(part for part in (self.path, self.method) if part)
        return f"{where}: {self.message}" if where else self.message


class InvalidArgument(CallError, ValueError):
    """The arguments do not fit the method's published schema."""

    code = 400
    exit_code = 2


class MethodNotFound(CallError, LookupError):
    """The exporter has no such driver or method."""

    code = 404
    exit_code = 2


class DeadlineExceeded(CallError, TimeoutError):
    """The deadline passed: the call was refused as late, or cancelled while it ran."""

    code = 408


class OutcomeUnknown(CallError):
    """The call may or may not have run; look at the device before trying again."""

    code = 409


class BlobNotFound(CallError, LookupError):
    """The lab's store has no such file, or not any more."""

    code = 410


class BlobIncomplete(CallError):
    """The upload of a file stopped while an exporter followed it: what was made of it is incomplete."""

    code = 411


class TooLarge(CallError, ValueError):
    """Arguments, a result or a stream item are over the limit."""

    code = 413


class BlobCorrupt(CallError, ValueError):
    """What is stored of a file is not what its SHA-256 says."""

    code = 422


class LeaseRequired(CallError, PermissionError):
    """The exporter is held by somebody else, or answers holders only."""

    code = 423
    exit_code = 5


class LeaseNotFound(CallError, LookupError):
    """No such lease, or it is somebody else's."""

    code = 424
    exit_code = 2


class LeaseLost(CallError):
    """The lease has ended, or somebody waits no more; the message says why."""

    code = 425
    exit_code = 5


class NoMatch(CallError, LookupError):
    """A selector that no exporter of the lab fits."""

    code = 427
    exit_code = 2


class PolicyDenied(CallError, PermissionError):
    """The lab's policy does not allow that."""

    code = 428
    exit_code = 4


class VersionMismatch(CallError):
    """Client and exporter speak different major versions of the protocol."""

    code = 426


class Busy(CallError):
    """Too many calls at once on one driver."""

    code = 429


class CallCancelled(CallError):
    """The call was cancelled by its caller or by the end of the lease."""

    code = 499


class ExporterOffline(CallError, ConnectionError):
    """No agent answers for that exporter, or it stopped answering."""

    code = 503
    exit_code = 3


class StorageFull(CallError, OSError):
    """The broker's store has no room for the results, or for a file."""

    code = 507


class DriverError(CallError):
    """The driver raised. `cause` is the name of the exception class on the exporter."""

    code = 500

    def __init__(self, message: str, *, path: str = "", method: str = "", detail: Any = None, cause: str = "") -> None:
        super().__init__(message, path=path, method=method, detail=detail)
        self.cause = cause


class DriverValueError(DriverError, ValueError):
    """The driver raised ValueError."""

    code = 520


class DriverNotImplemented(DriverError, NotImplementedError):
    """The driver raised NotImplementedError."""

    code = 521


class DriverTimeout(DriverError, TimeoutError):
    """The driver raised TimeoutError."""

    code = 522


class DriverConnectionError(DriverError, ConnectionError):
    """The driver raised ConnectionError."""

    code = 523


class DriverOSError(DriverError, OSError):
    """The driver raised OSError."""

    code = 524


def _family(cls: type[CallError]) -> list[type[CallError]]:
    return [cls, *(kid for sub in cls.__subclasses__() for kid in _family(sub))]


CATALOGUE: dict[int, type[CallError]] = {cls.code: cls for cls in _family(CallError) if cls is not CallError}
"""Wire code to class; the only place where the two meet."""

_BUILTINS: tuple[tuple[type[BaseException], type[DriverError]], ...] = (
    (TimeoutError, DriverTimeout),
    (ConnectionError, DriverConnectionError),
    (NotImplementedError, DriverNotImplemented),
    (OSError, DriverOSError),
    (ValueError, DriverValueError),
)


def driver_error(error: BaseException, path: str, method: str) -> CallError:
    """Turn whatever a driver raised into the error that travels to the caller."""
    if isinstance(error, CallError):
        error.path, error.method = error.path or path, error.method or method
        return error
    cls = next((ours for builtin, ours in _BUILTINS if isinstance(error, builtin)), DriverError)
    name = type(error).__name__
    text = str(error) or name
    # What no builtin of the catalogue says is named: "KeyError: 'missing'" tells more than "'missing'".
    message = f"{name}: {text}" if cls is DriverError and text != name else text
    return cls(message, path=path, method=method, cause=name)


def error_to_wire(error: CallError) -> tuple[int, dict[str, Any]]:
    """Return the code and the body of an error reply."""
    body: dict[str, Any] = {"type": type(error).__name__, "message": error.message}
    if error.path:
        body["path"] = error.path
    if error.method:
        body["method"] = error.method
    if error.detail is not None:
        body["detail"] = error.detail
    if isinstance(error, DriverError) and error.cause:
        body["cause"] = error.cause
    return error.code, body


def error_from_wire(code: int, body: object) -> CallError:
    """Rebuild the error of a reply. An unknown code becomes a DriverError, a malformed body keeps its text."""
    fields = body if isinstance(body, dict) else {"message": str(body)}
    cls = CATALOGUE.get(code, DriverError)
    named = {key: str(fields.get(key) or "") for key in ("path", "method")}
    message = str(fields.get("message") or cls.__doc__)
    if issubclass(cls, DriverError):
        return cls(message, detail=fields.get("detail"), cause=str(fields.get("cause") or ""), **named)
    return cls(message, detail=fields.get("detail"), **named)
