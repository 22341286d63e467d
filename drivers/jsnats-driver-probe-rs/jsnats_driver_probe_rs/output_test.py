import pytest

from .common import Width
from .output import Told, failure, found_nothing, parse_words

TABLE = "20000000: 41494531 00000001 00008188 00008194 0000819d 000081a6 000081af 0000002a\n20000020: 00607fc5\n"


@pytest.mark.parametrize(
    ("text", "width", "words"),
    [
        (TABLE, 32, [0x41494531, 1, 0x8188, 0x8194, 0x819D, 0x81A6, 0x81AF, 0x2A, 0x607FC5]),
        ("00 ff 10 \n", 8, [0, 255, 16]),
        ("10000000: 0001 fffe\n", 16, [1, 0xFFFE]),
        ("100000000: ffffffffffffffff\n", 64, [(1 << 64) - 1]),
        (" WARN probe_rs::session: something\n20000000: 00000001\n", 32, [1]),
        ("20000000: 0001\n", 32, []),
        ("", 8, []),
    ],
)
def test_words_of_a_read(text: str, width: Width, words: list[int]) -> None:
    """The table of now and the plain list of before; lines that are none are left out, words of another width too."""
    assert parse_words(text, width) == words


def test_bars_are_progress_and_no_words() -> None:
    """Bars of all versions, in colour or not, are reported once for each change and are not in the reason."""
    seen: list[tuple[int, str]] = []
    told = Told(lambda percent, what: seen.append((percent, what)))
    for percent in (0, 42, 42, 100):
        told.add(f"\r\x1b[2K\x1b[32m\x1b[1m  Programming\x1b[0m \u2801 {percent:>3}% [####----] 4.00 KiB (ETA 0s)")
    told.add("\n    Verifying 2 \u2801  7% [#---]\n      Erasing \u2714 [00:00:00] [----] 0B/62.00KB @ 0B/s (eta 0s)\n")
    told.add("     Finished in 0.30s\n")
    assert seen == [(0, "Programming"), (42, "Programming"), (100, "Programming"), (7, "Verifying"), (0, "Erasing")]
    assert told.reason() == "Finished in 0.30s"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Error: No connected probes were found.\n", "Error: No connected probes were found."),
        (
            "\x1b[33m WARN\x1b[0m probe_rs: hm\r\nError: Bad\r\n\r\nCaused by:\r\n    0: A\r\n    1: B\r\n",
            "Error: Bad Caused by: 0: A 1: B",
        ),
        (
            "Available Probes:\n0: STLink\n1: J-Link\nSelection: Error: Failed to parse probe index\n",
            "Available Probes: 0: STLink 1: J-Link Selection: Error: Failed to parse probe index",
        ),
        ("error: unexpected argument '--verify' found\n", "error: unexpected argument '--verify' found"),
        ("".join(f"line {n}\n" for n in range(100)), "line 94 line 95 line 96 line 97 line 98 line 99"),
        ("", ""),
    ],
)
def test_the_reason_is_one_line(text: str, reason: str) -> None:
    """The error with its causes, without colours and warnings; the last lines where none says that it is one."""
    told = Told()
    told.add(text)
    assert told.reason() == reason


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("Error: No connected probes were found.", ConnectionError),
        ("Error: Probe is already in use", ConnectionError),
        ("Error: Failed to open probe: access denied", ConnectionError),
        ("Error: Failed to open the debug probe. Caused by: The probe was not found.", ConnectionError),
        ("Error: Connecting to the chip was unsuccessful.", ConnectionError),
        ("Error: The flashing procedure failed for 'a.elf'.", OSError),
        ("", OSError),
    ],
)
def test_what_cannot_be_reached_is_a_connection_error(reason: str, kind: type[OSError]) -> None:
    """All else is an OSError; the exit code is in both."""
    error = failure("read", 101, reason)
    assert type(error) is kind
    assert str(error) == f"probe-rs read failed (exit code 101): {reason or 'it said nothing'}"


def test_info_that_found_something() -> None:
    """One protocol of two is enough; nothing at all of a newer one is left to its exit code."""
    failed, found = "Probing target via JTAG\nError while probing target: x\n", "Probing target via SWD\nARM Chip\n"
    assert found_nothing(failed)
    assert not found_nothing(failed + found)
    assert not found_nothing("Detected chip: LM3S6965\n")
