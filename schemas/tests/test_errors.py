from __future__ import annotations

import builtins

import pytest

from jsnats.schemas import (
    CATALOGUE,
    AccessDenied,
    BrokerError,
    CallError,
    ConfigurationError,
    DriverError,
    InvalidArgument,
    InvalidName,
    JsnatsError,
    OutcomeUnknown,
    _errors as module,
    driver_error,
    error_from_wire,
    error_to_wire,
)

CODES: dict[int, tuple[str, type[BaseException] | None]] = {
    400: ("InvalidArgument", ValueError),
    404: ("MethodNotFound", LookupError),
    408: ("DeadlineExceeded", TimeoutError),
    409: ("OutcomeUnknown", None),
    410: ("BlobNotFound", LookupError),
    411: ("BlobIncomplete", None),
    413: ("TooLarge", ValueError),
    422: ("BlobCorrupt", ValueError),
    423: ("LeaseRequired", PermissionError),
    424: ("LeaseNotFound", LookupError),
    425: ("LeaseLost", None),
    426: ("VersionMismatch", None),
    427: ("NoMatch", LookupError),
    428: ("PolicyDenied", PermissionError),
    429: ("Busy", None),
    499: ("CallCancelled", None),
    500: ("DriverError", None),
    503: ("ExporterOffline", ConnectionError),
    507: ("StorageFull", OSError),
    520: ("DriverValueError", ValueError),
    521: ("DriverNotImplemented", NotImplementedError),
    522: ("DriverTimeout", TimeoutError),
    523: ("DriverConnectionError", ConnectionError),
    524: ("DriverOSError", OSError),
}

RAISED: list[tuple[BaseException, int]] = [
    (ValueError("v"), 520),
    (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), 520),
    (NotImplementedError("n"), 521),
    (TimeoutError("t"), 522),
    (ConnectionError("c"), 523),
    (ConnectionResetError("c"), 523),
    (BrokenPipeError("c"), 523),
    (OSError("o"), 524),
    (FileNotFoundError("f"), 524),
    (PermissionError("p"), 524),
    (KeyError("k"), 500),
    (RuntimeError("r"), 500),
    (SystemExit(3), 500),
]


def test_catalogue() -> None:
    """Each code names one class and no class is missing: the numbers are part of the protocol."""
    assert {code: cls.__name__ for code, cls in CATALOGUE.items()} == {code: name for code, (name, _) in CODES.items()}


@pytest.mark.parametrize(("code", "name", "builtin"), [(code, *row) for code, row in CODES.items()])
def test_there_and_back(code: int, name: str, builtin: type[BaseException] | None) -> None:
    """An error crosses the wire as its class, with path, method and detail, and can be caught as its builtin."""
    error = CATALOGUE[code]("no\npower", path="dut.power", method="on", detail={"rail": 5})
    assert error_to_wire(error) == (
        code,
        {"type": name, "message": "no\npower", "path": "dut.power", "method": "on", "detail": {"rail": 5}},
    )
    back = error_from_wire(*error_to_wire(error))
    assert type(back) is type(error)
    assert (back.message, back.path, back.method, back.detail) == ("no\npower", "dut.power", "on", {"rail": 5})
    assert str(back) == "dut.power.on: no\npower"
    assert builtin is None or isinstance(back, builtin)


@pytest.mark.parametrize(("raised", "code"), RAISED, ids=lambda value: type(value).__name__)
def test_what_a_driver_raises(raised: BaseException, code: int) -> None:
    """Whatever a driver raises travels as the nearest class, with the name of its own as cause."""
    error = driver_error(raised, "dut", "go")
    assert isinstance(error, DriverError)
    assert (error.code, error.cause, error.path, error.method) == (code, type(raised).__name__, "dut", "go")
    back = error_from_wire(*error_to_wire(error))
    assert isinstance(back, DriverError)
    assert back.cause == type(raised).__name__


def test_driver_error_without_a_text() -> None:
    """An exception without a message says at least its class."""
    assert driver_error(ValueError(), "", "").message == "ValueError"


def test_driver_raises_one_of_ours() -> None:
    """A CallError that a driver raises keeps its class, and its path if it has one."""
    error = InvalidArgument("no such rail", path="far")
    assert driver_error(error, "dut", "go") is error
    assert (error.path, error.method) == ("far", "go")


@pytest.mark.parametrize(
    ("code", "body", "cls", "message"),
    [
        (777, {"message": "new"}, DriverError, "new"),
        (409, None, OutcomeUnknown, "None"),
        (409, "text", OutcomeUnknown, "text"),
        (400, {"message": 5, "path": None}, InvalidArgument, "5"),
        (500, {"message": "m", "cause": None}, DriverError, "m"),
    ],
)
def test_error_of_a_stranger(code: int, body: object, cls: type[CallError], message: str) -> None:
    """An unknown code is a DriverError, and a body of another shape still gives an error with its text."""
    error = error_from_wire(code, body)
    assert type(error) is cls
    assert error.message == message


def test_a_missing_message_has_a_text() -> None:
    """An error reply without a message says what its class means."""
    assert error_from_wire(409, {}).message == OutcomeUnknown.__doc__


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (ConfigurationError, ValueError),
        (InvalidName, ValueError),
        (BrokerError, ConnectionError),
        (AccessDenied, PermissionError),
    ],
)
def test_local_errors_are_builtins_too(cls: type[JsnatsError], builtin: type[BaseException]) -> None:
    """A fault of this side can be caught as the builtin a script expects, and never as a call's."""
    assert issubclass(cls, builtin)
    assert not issubclass(cls, CallError)


def test_no_builtin_is_shadowed() -> None:
    """No error of ours has the name of a builtin, so `except TimeoutError` always means Python's."""
    ours = [name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, JsnatsError)]
    assert not [name for name in ours if hasattr(builtins, name)]
