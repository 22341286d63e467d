"""One plug behind an MQTT broker: the connection, kept until it is stopped, and questions with their answers.

paho's thread connects, connects again and receives. All it does here is to hand over to the event loop, where the state
lives: so there are no locks.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.reasoncodes import ReasonCode

from .topics import OFF, OFFLINE, ON, ONLINE, Topics

RECONNECT_MIN_S, RECONNECT_MAX_S = 1, 5

Question = tuple[Callable[[str, bytes], bool], asyncio.Future[bytes]]
"""What is an answer, given topic and payload; and who waits for it."""


class Plug:
    """A plug at a broker. `where` names the broker in errors, `timeout_s` is how long an answer may take.

    Not usable before `start`. All methods belong to the event loop that called it.
    """

    def __init__(self, topics: Topics, where: str, timeout_s: float, logger: logging.Logger) -> None:
        self.topics, self.where, self.timeout_s, self.logger = topics, where, timeout_s, logger
        self._client: Client | None = None
        self._problem = "the exporter has not started"
        self._last_state = "nothing"
        self._online: bool | None = None
        self._tried = asyncio.Event()
        self._questions: list[Question] = []

    @property
    def started(self) -> bool:
        """Whether it is between `start` and `stop`."""
        return self._client is not None

    async def start(self, client: Client, host: str, port: int) -> None:
        """Begin to connect, and go on until `stop`: what is wrong, the next question says."""
        hand_over = partial(_hand_over, asyncio.get_running_loop())
        self._client, self._tried, self._problem = client, asyncio.Event(), "not connected"
        client.on_connect = hand_over(self._greeted)
        client.on_subscribe = hand_over(self._subscribed)
        client.on_message = hand_over(self._heard)
        client.on_disconnect = hand_over(self._lost)
        # paho calls this one while it handles the error, and does not pass it.
        client.on_connect_fail = lambda _client, _data: hand_over(self._refused)(None, None, str(sys.exception()))
        client.reconnect_delay_set(RECONNECT_MIN_S, RECONNECT_MAX_S)
        client.connect_async(host, port, keepalive=15)
        client.loop_start()

    async def stop(self) -> None:
        """Leave the broker; who waits for an answer gets ConnectionError."""
        if self._client is not None:
            client, self._client = self._client, None
            client.disconnect()
            await asyncio.to_thread(client.loop_stop)
            self._fail("the exporter has stopped")

    async def switch(self, on: bool) -> None:
        """Return when the plug has confirmed; raises TimeoutError if it does not, ConnectionError if it cannot."""
        wanted = ON if on else OFF
        await self._ask(
            self.topics.command,
            wanted,
            lambda topic, payload: topic == self.topics.state and payload == wanted.encode(),
            f"did not confirm {wanted} on {self.topics.state}",
        )

    async def is_on(self) -> bool:
        """Ask for the state, which changes nothing. Raises as `switch`."""
        answer = await self._ask(
            self.topics.command,
            "",
            lambda topic, payload: topic == self.topics.state and payload in (ON.encode(), OFF.encode()),
            f"did not say its state on {self.topics.state}",
        )
        return answer == ON.encode()

    async def energy(self) -> bytes:
        """Ask for status 8, as it comes. Raises as `switch`."""
        said = f"did not answer on {self.topics.energy}"
        return await self._ask(self.topics.ask_status, "8", lambda topic, _: topic == self.topics.energy, said)

    async def _ask(self, topic: str, payload: str, answers: Callable[[str, bytes], bool], otherwise: str) -> bytes:
        question: Question = (answers, asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(self.timeout_s):
                client = await self._ready()
                self._questions.append(question)
                # QoS 0: paho would send the others again after a reconnect, when the caller has long been told that
                # it failed, and a board would be switched on under the next holder's hands.
                client.publish(topic, payload, qos=0)
                return await question[1]
        except TimeoutError:
            raise TimeoutError(
                f"the plug {otherwise} within {self.timeout_s:g} s; it last said {self._last_state}"
            ) from None
        finally:
            with suppress(ValueError):
                self._questions.remove(question)

    async def _ready(self) -> Client:
        """Wait for the first attempt to connect. Raises ConnectionError at once when there is no way to the plug."""
        if self._client is not None:
            await self._tried.wait()
        if self._problem or self._client is None:
            raise ConnectionError(f"{self.where}: {self._problem}")
        if self._online is False:
            raise ConnectionError(self._offline())
        return self._client

    def _offline(self) -> str:
        return f"the plug is offline, says {self.topics.alive}: has it power and network?"

    # What paho's thread posts.

    def _greeted(self, _flags: Any, code: ReasonCode, _more: Any) -> None:
        if code.is_failure:
            self._refused(f"the broker refuses: {code}")
        elif self._client is not None:
            topics = filter(None, (self.topics.state, self.topics.energy, self.topics.alive))
            self._client.subscribe([(topic, 1) for topic in topics])

    def _subscribed(self, _mid: int, codes: list[ReasonCode], _more: Any) -> None:
        if any(code.is_failure for code in codes):
            self._refused("the broker does not let this user read the topics of the plug")
            return
        self._problem = ""
        self._tried.set()
        self.logger.info("%s: connected", self.where)

    def _refused(self, reason: str) -> None:
        if reason != self._problem:
            self.logger.warning("%s: %s", self.where, reason)
        self._fail(reason)

    def _lost(self, _flags: Any, code: ReasonCode, _more: Any) -> None:
        if not (self._problem and self._tried.is_set()):  # else it is known better why
            self._refused(f"the connection is lost: {code}")

    def _fail(self, reason: str) -> None:
        self._problem, self._online = reason, None
        self._tried.set()
        self._end_questions(f"{self.where}: {reason}")

    def _heard(self, message: MQTTMessage) -> None:
        if message.topic == self.topics.alive:
            self._live(message.payload.decode(errors="replace"))
            return
        if message.topic == self.topics.state:
            self._last_state = message.payload.decode(errors="replace")
        if not message.retain:  # a kept one is older than the question
            for answers, waiter in self._questions:
                if answers(message.topic, message.payload) and not waiter.done():
                    waiter.set_result(message.payload)

    def _live(self, said: str) -> None:
        self._online = {ONLINE: True, OFFLINE: False}.get(said)
        if self._online is False:
            self._end_questions(self._offline())

    def _end_questions(self, reason: str) -> None:
        for _, waiter in self._questions:
            if not waiter.done():
                waiter.set_exception(ConnectionError(reason))


def _hand_over(loop: asyncio.AbstractEventLoop, method: Callable[..., None]) -> Callable[..., None]:
    def callback(_client: Any, _data: Any, *told: Any) -> None:
        loop.call_soon_threadsafe(method, *told)

    return callback
