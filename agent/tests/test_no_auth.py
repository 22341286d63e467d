"""The one smoke test without authentication: a broker that lets anybody in, on loopback."""

from __future__ import annotations

from jsnats.agent import Exporter, Spec
from jsnats.agent.testing import Bench
from jsnats.broker.testing import running_broker
from jsnats.schemas import ADMIN
from jsnats.sdk import Context, connect_async


async def test_a_lab_without_credentials_works_for_a_tool_that_knows_nothing_of_us() -> None:
    """With `auth: false` a plain request with any inbox is answered in JSON, and the SDK works as ever."""
    with running_broker(auth=False) as broker:
        spec = Spec(name="bench", root=Bench(), auth=False)
        async with (
            Exporter(spec, Context(url=broker.url, name="bench")),
            connect_async(context=Context(url=broker.url, name="anybody", role=ADMIN)) as lab,
        ):
            client = await lab.exporter("bench")
            assert await client.call_async("ping", 5) == 5
            assert [item async for item in client.streamingcall_async("count", 3)] == [0, 1, 2]
            answer = await lab.connection.request("jsnats.call.bench.anybody.ping", b'{"value": 7}')
            assert answer.data == b"7"
