import pytest

from .gdb import Once

FIRST, NEXT = b"$qSupported:multiprocess+#c6", b"$vMustReplyEmpty#3a"


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ([b"+" + FIRST], [b"+" + FIRST]),
        ([b"+" + FIRST + FIRST + FIRST], [b"+" + FIRST]),
        ([b"+", FIRST, FIRST, b"+" + NEXT, NEXT], [b"+", FIRST, b"", b"+" + NEXT, NEXT]),
        ([FIRST + FIRST + NEXT + FIRST, FIRST], [FIRST + NEXT + FIRST, FIRST]),
        ([b"\x03"], [b"\x03"]),
    ],
)
def test_the_first_packet_passes_once(said: list[bytes], sent: list[bytes]) -> None:
    """Until another one comes; from then on nothing is left out."""
    once = Once()
    assert [once(each) for each in said] == sent
