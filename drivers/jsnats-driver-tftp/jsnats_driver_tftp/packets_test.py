import pytest

from jsnats_driver_tftp.packets import (
    Ack,
    Code,
    Failure,
    Malformed,
    Packet,
    Request,
    Settings,
    agree,
    data,
    error,
    netascii,
    oack,
    parse,
)


@pytest.mark.parametrize(
    ("datagram", "said"),
    [
        (b"\0\1boot/a.img\0octet\0", Request("boot/a.img")),
        (b"\0\2a\0NetASCII\0", Request("a", "netascii", write=True)),
        (
            b"\0\1a\0octet\0tsize\x000\0BLKSIZE\x001468\0",  # U-Boot, curl
            Request("a", options={"tsize": "0", "blksize": "1468"}),
        ),
        (b"\0\1a\0octet\0timeout\x005\0timeout\x009\0", Request("a", options={"timeout": "5"})),
        (b"\0\1a\0octet\0\0\0\0", Request("a")),
        (b"\0\1a\0octet\0tsize\0", Request("a")),
        (b"\0\1caf\xe9\0octet\0", Request("caf\udce9")),
        (b"\0\4\0\0", Ack(0)),
        (b"\0\4\xff\xfe", Ack(65534)),
        (b"\0\5\0\3disk full\0", Failure(3, "disk full")),
        (b"\0\5\0\0", Failure(0, "")),
    ],
)
def test_what_clients_say(datagram: bytes, said: Packet) -> None:
    """Golden bytes."""
    assert parse(datagram) == said


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\0",
        b"\0\1",
        b"\0\1a",
        b"\0\1a\0",
        b"\0\1a\0octet",
        b"\0\1\0octet\0",
        b"\0\1a\0octet\0tsize",
        b"\0\4\0",
        b"\0\5\0",
        b"\0\7\0\0",
        b"\1\1a\0octet\0",
        b"\0\3\0\1data",
        b"\0\6tsize\x005\0",
    ],
)
def test_what_no_client_says(datagram: bytes) -> None:
    """It is refused, whatever it is."""
    with pytest.raises(Malformed):
        parse(datagram)


def test_what_the_server_says() -> None:
    """Golden bytes."""
    assert data(1, b"abc") == b"\0\3\0\1abc"
    assert data(65536 + 2, b"") == b"\0\3\0\2"
    assert oack({"tsize": "12", "blksize": "1468"}) == b"\0\6tsize\x0012\0blksize\x001468\0"
    assert error(Code.NOT_FOUND, "there is no such file") == b"\0\5\0\1there is no such file\0"


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, Settings()),
        ({"blksize": "1468"}, Settings(1468, answer={"blksize": "1468"})),
        ({"blksize": "65465"}, Settings(65464, answer={"blksize": "65464"})),
        ({"blksize": "8"}, Settings(8, answer={"blksize": "8"})),
        ({"blksize": "7"}, Settings()),
        ({"timeout": "255"}, Settings(timeout_s=255, answer={"timeout": "255"})),
        ({"timeout": "0"}, Settings()),
        ({"timeout": "256"}, Settings()),
        ({"tsize": "0"}, Settings(answer={"tsize": "1000"})),
        ({"windowsize": "4"}, Settings(window=4, answer={"windowsize": "4"})),
        ({"windowsize": "65535"}, Settings(window=16, answer={"windowsize": "16"})),
        ({"windowsize": "0"}, Settings()),
        ({"blksize": "-8", "timeout": "1.5", "tsize": "", "windowsize": "٤"}, Settings()),
        ({"blksize": "9" * 5000}, Settings()),
        ({"utimeout": "1000", "multicast": ""}, Settings()),
        (
            {"windowsize": "2", "tsize": "0", "timeout": "3", "blksize": "512"},
            Settings(512, 2, 3, {"windowsize": "2", "tsize": "1000", "timeout": "3", "blksize": "512"}),
        ),
    ],
)
def test_options(options: dict[str, str], settings: Settings) -> None:
    """What is agreed on, and what the client is told; what makes no sense is left out."""
    assert agree(options, 1000) == settings


def test_a_size_that_is_not_known_is_not_told() -> None:
    """That of text, which grows on the way."""
    assert agree({"tsize": "0", "blksize": "512"}, None).answer == {"blksize": "512"}


def test_netascii() -> None:
    """Lines end in CR LF, a CR by itself has a zero byte behind it, and where the text is cut changes nothing."""
    text = b"a\nb\r\nc\rd"
    assert netascii(text) == b"a\r\nb\r\0\r\nc\r\0d"
    assert b"".join(netascii(text[at : at + 1]) for at in range(len(text))) == netascii(text)
