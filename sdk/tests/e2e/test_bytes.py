"""Two-way byte streams through the deaths of broker, agent and client."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, TimeoutError as FutureTimeout
from typing import Any

import anyio
import pytest

from jsnats.agent.testing import AgentProcess
from jsnats.broker.testing import TestBroker
from jsnats.sdk import BlockingStream, StreamReset, connect

pytestmark = pytest.mark.timeout(120)


def echoed(stream: BlockingStream, total: int, at: dict[int, Any]) -> tuple[str, str]:
    """Send `total` bytes and take them back; call what `at` says when so many messages are there. Both digests."""
    dice, sent, got = random.Random(1), hashlib.sha256(), hashlib.sha256()

    def send() -> None:
        for _ in range(total >> 15):
            data = dice.randbytes(1 << 15)
            sent.update(data)
            stream.send(data)
        stream.send_eof()

    sender = threading.Thread(target=send)
    sender.start()
    count = 0
    try:
        while True:
            got.update(stream.receive())
            count += 1
            if count in at:
                at[count]()
    except anyio.EndOfStream:
        pass
    sender.join()
    return sent.hexdigest(), got.hexdigest()


def test_bytes_survive_two_kills_of_the_broker(broker: TestBroker, client: Any) -> None:
    """48 MiB there and back through two SIGKILLs: nothing lost, nothing doubled, both digests equal."""
    with client.stream() as stream:
        sent, got = echoed(stream, 48 << 20, {300: broker.kill, 900: broker.kill})
    assert sent == got


def test_bytes_survive_an_outage(broker: TestBroker, client: Any) -> None:
    """While the broker is away nobody is told, and afterwards the stream goes on where it was."""
    with client.stream() as stream:
        stream.send(b"before")
        assert stream.receive() == b"before"
        broker.stop()
        stream.send(b"meanwhile")
        broker.start()
        assert stream.receive(20) == b"meanwhile"


def test_a_stream_opened_in_an_outage_waits(broker: TestBroker, client: Any) -> None:
    """The first stream, for which a second connection is made, is opened when the broker is back."""
    broker.stop()
    with ThreadPoolExecutor() as pool:
        opening = pool.submit(client.open_stream)
        with pytest.raises(FutureTimeout):
            opening.result(0.5)
        broker.start()
        with opening.result(20) as stream:
            stream.send(b"at last")
            assert stream.receive(20) == b"at last"


def test_a_killed_agent_is_a_reset(agent: AgentProcess, client: Any) -> None:
    """SIGKILL of the agent: a reader waits no longer than the two seconds of a call, and is told."""
    with pytest.raises(StreamReset, match="offline"), client.stream() as stream:
        agent.kill()
        stream.receive(10)


def test_a_restarted_agent_does_not_go_on_with_an_old_stream(
    broker: TestBroker, agent: AgentProcess, client: Any
) -> None:
    """Another agent under the same name knows nothing of the stream: a reset, never a silent splice."""
    stream = client.open_stream()
    stream.send(b"x")
    assert stream.receive() == b"x"
    agent.kill()
    with AgentProcess("bench", broker.context_path("bench")) as successor, pytest.raises(StreamReset):
        assert successor.greeting == "ready"
        stream.send(b"y")
        stream.receive(30)


def test_a_killed_client_frees_the_driver(broker: TestBroker, agent: AgentProcess, client: Any) -> None:
    """SIGKILL of a client process that holds a stream: the driver's end is closed within seconds."""
    code = "; ".join(
        (
            "from jsnats.sdk import connect",
            "stream = connect().exporter('bench').open_stream()",
            "print('open', flush=True)",
            "stream.receive()",
        )
    )
    env = {"JSNATS_CONTEXT": str(broker.context_path("alice")), "PATH": ""}
    other = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE)
    assert other.stdout
    assert other.stdout.readline() == b"open\n"
    before = client.ended()
    other.kill()
    other.wait()
    other.stdout.close()
    while client.ended() == before:
        client.sleep(0.2)


def test_a_lab_that_is_closed_frees_the_driver(broker: TestBroker, client: Any) -> None:
    """What a script has left open is closed with its connection: the next one need not wait until the exporter finds
    that nobody is there any more."""
    before = client.ended()
    with connect(context=broker.context("alice")) as lab:
        stream = lab.exporter("bench").open_stream()  # type: ignore[attr-defined]
        stream.send(b"last words")
    assert client.ended() == before + 1
