"""Listens to one agent's socket for as long as the daemon runs: absent, slow or broken is told once
and costs nothing."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from deviceplugin.health.dialects import MAX_NAMES, NOTHING_SAID, Dialect, bounded
from deviceplugin.model import Device, Fault

log = structlog.get_logger()

CALL_S = 5.0
POLL_S = 30.0
RETRY_S = 10.0
# An agent that says nothing for so long is not believed any more; our own sources remain.
STALE_S = 120.0
# Room for 512 GPUs with 1 KiB each; what is read of a message takes many times its size.
MAX_ANSWER_BYTES = 512 * 1024
_OPTIONS = (("grpc.max_receive_message_length", MAX_ANSWER_BYTES),)

Tell = Callable[[str, Sequence[Fault]], None]


class Listener:
    """Passes what an agent says to `tell` as the whole set of its source."""

    def __init__(self, dialect: Dialect, path: Path, tell: Tell) -> None:
        self._dialect, self._path, self._tell = dialect, path, tell
        self._devices: Callable[[], Sequence[Device]] = tuple
        self._said = NOTHING_SAID
        self._crowded = False
        self._problem: str | None = None
        self._heard_at: float | None = None

    async def run(self, devices: Callable[[], Sequence[Device]]) -> None:
        """Listen until cancelled; `devices` gives those of the vendor now."""
        self._devices = devices
        while True:
            if await asyncio.to_thread(_is_trusted, self._path):
                await self._listen()
            self._forget_stale()
            await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        try:
            async with grpc.aio.insecure_channel(f"unix:{self._path}", options=_OPTIONS) as channel:
                self._said = NOTHING_SAID
                async for data in self._answers(channel):
                    self._hear(self._dialect.answer.FromString(data))
            self._lost("the agent ended its answers")
        except grpc.aio.AioRpcError as error:
            self._lost(f"{error.code().name}: {error.details()}")
        except DecodeError as error:
            self._lost(str(error))

    async def _answers(self, channel: grpc.aio.Channel) -> AsyncIterator[bytes]:
        coding = {
            "request_serializer": type(self._dialect.request).SerializeToString,
            "response_deserializer": None,
        }
        if self._dialect.streams:
            async for answer in channel.unary_stream(self._dialect.method, **coding)(
                self._dialect.request
            ):
                yield answer
            return
        ask = channel.unary_unary(self._dialect.method, **coding)
        while True:
            yield await ask(self._dialect.request, timeout=CALL_S)
            await asyncio.sleep(POLL_S)

    def _hear(self, answer: Any) -> None:
        if self._heard_at is None or self._problem is not None:
            log.info("health_agent_answers", agent=self._dialect.source, socket=str(self._path))
        self._problem, self._heard_at = None, asyncio.get_running_loop().time()
        devices, said = self._devices(), self._dialect.hear(self._said, answer)
        self._said = bounded(said, self._dialect, devices)
        if len(self._said) < len(said):
            self._tell_crowded()
        faults = self._dialect.faults_of(self._said, devices)
        self._tell(self._dialect.source, tuple({fault.key: fault for fault in faults}.values()))

    def _tell_crowded(self) -> None:
        """Once: such an agent goes on."""
        if not self._crowded:
            log.warning(
                "health_agent_crowded",
                agent=self._dialect.source,
                reason=f"it complains of more than {MAX_NAMES} GPUs",
                kept="what it says of this node's GPUs, then what it said last",
            )
        self._crowded = True

    def _lost(self, problem: str) -> None:
        if problem != self._problem:
            log.warning("health_agent_lost", agent=self._dialect.source, reason=problem)
        self._problem = problem

    def _forget_stale(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._heard_at is not None and now - self._heard_at >= STALE_S:
            log.warning("health_agent_stale", agent=self._dialect.source, after_s=STALE_S)
            self._heard_at = None
            self._tell(self._dialect.source, ())


def _is_trusted(path: Path) -> bool:
    """Whether a socket is there that root, or our own user, made."""
    try:
        return path.stat().st_uid in (0, os.getuid())
    except OSError:
        return False
