"""Listens to the agents of vendors, for as long as the daemon runs.

An agent that is absent, slow or broken is logged once and costs nothing. It is another program, so
of its reports only complaints are kept, each cut to size, about no more GPUs than MAX_REPORTS.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import grpc
import grpc.aio
import structlog
from msgspec.structs import replace

from deviceplugin.model import Device, Fault
from deviceplugin.names import one_line
from deviceplugin.runtime.guard import guarded
from deviceplugin.vendor import (
    MAX_COMPLAINTS,
    Agent,
    AgentProtocol,
    AgentReport,
    AgentSource,
    Reports,
    Vendor,
)

log = structlog.get_logger()

CALL_S = 5.0
POLL_S = 30.0
RETRY_S = 10.0
# Room for 512 GPUs with 1 KiB each; what is read of a message takes many times its size.
MAX_ANSWER_BYTES = 512 * 1024
MAX_REPORTS = 256
# An agent that begins, or a change of all GPUs, is many answers at once; over time one a second.
BURST = 32.0
RATE_S = 1.0
COST_BYTES = 16 * 1024  # a long answer counts as several, and is not read on the loop
MAX_NAME = 253  # characters; what Kubernetes allows a name to have
MAX_CODE = 63
NO_REPORTS: Reports = {}
_OPTIONS = (("grpc.max_receive_message_length", MAX_ANSWER_BYTES),)
_ACTION = "see the agent's log and the kernel log for this GPU"

Tell = Callable[[str, Sequence[Fault]], None]


def agents_of(vendors: Iterable[Vendor]) -> Iterator[tuple[str, Agent]]:
    """The agents of those vendors that have any, each with its vendor's name.

    One that reports as another vendor, or what is not an Agent, is left out and logged.
    """
    for vendor in vendors:
        if not isinstance(vendor, AgentSource):
            continue
        for agent in guarded(f"{vendor.name}.agents", partial(_agents, vendor), tuple)():
            problem = agent_problem(vendor.name, agent)
            if problem is None:
                yield vendor.name, agent
            else:
                log.warning("health_agent_refused", vendor=vendor.name, reason=problem)


def _agents(vendor: AgentSource) -> tuple[Agent, ...]:
    return tuple(vendor.agents())


def agent_problem(vendor: str, agent: object) -> str | None:  # noqa: PLR0911  # one return a rule
    """Why the daemon does not listen to an agent of `vendor`, None where it does."""
    if not isinstance(agent, Agent):
        return f"agents() gave {type(agent).__name__}, not an Agent"
    if not all(isinstance(text, str) for text in (agent.source, agent.socket, agent.method)):
        return "its source, socket and method are not all text"
    if not agent.source.startswith(f"{vendor}."):
        return f"its source {agent.source!r:.80} does not start with '{vendor}.'"
    if not agent.socket.startswith("/"):
        return f"its socket {agent.socket!r:.80} is not an absolute path"
    if agent.method.count("/") != 2 or not agent.method.startswith("/"):
        return f"its method {agent.method!r:.80} is not '/package.Service/Method'"
    if agent.stale_s <= 0:
        return f"its stale_s is {agent.stale_s}, not more than 0 seconds"
    return None


def agent_faults(
    source: str, protocol: AgentProtocol, reports: Reports, devices: Sequence[Device]
) -> tuple[Fault, ...]:
    """What stands in `reports`, as far as it is about `devices`, one fault a device and code."""
    faults = (
        Fault(
            device=device.id,
            source=source,
            code=one_line(complaint.code, MAX_CODE) or "reported",
            reason=one_line(complaint.reason) or "no reason given",
            kind=complaint.kind,
            action=one_line(complaint.action) or _ACTION,
        )
        for report in reports.values()
        for device in protocol.resolve(report.identity, devices)
        for complaint in report.complaints
    )
    return tuple({fault.key: fault for fault in faults}.values())


def usable(reports: Reports) -> Reports:
    """The reports with complaints and names of a usual length, each cut to MAX_COMPLAINTS."""
    return {name: _cut(report) for name, report in reports.items() if _counts(name, report)}


def bounded(reports: Reports, protocol: AgentProtocol, devices: Sequence[Device]) -> Reports:
    """At most MAX_REPORTS of `reports`: those about our devices first, then the latest.

    One about a GPU that is not ours may be about one that discovery has not found yet.
    """
    if len(reports) <= MAX_REPORTS:
        return reports
    latest = dict(reversed(list(reports.items())))
    ours = {n: r for n, r in latest.items() if protocol.resolve(r.identity, devices)}
    kept = dict(islice({**ours, **latest}.items(), MAX_REPORTS))
    return {name: report for name, report in reports.items() if name in kept}


def _counts(name: str, report: AgentReport) -> bool:
    return bool(report.complaints) and max(len(name), len(report.identity)) <= MAX_NAME


def _cut(report: AgentReport) -> AgentReport:
    if len(report.complaints) <= MAX_COMPLAINTS:
        return report
    return replace(report, complaints=report.complaints[:MAX_COMPLAINTS])


class Pace:
    """How long to wait before the next answer: not at all for BURST of them, then `rate_s` seconds
    each. What an agent sends meanwhile waits in its own process."""

    def __init__(self, rate_s: float, now: float) -> None:
        self._rate_s, self._left, self._at = rate_s, BURST, now

    def wait_s(self, size: int, now: float) -> float:
        """Counts an answer of that many bytes; seconds until the next may be read."""
        self._left = min(BURST, self._left + (now - self._at) / self._rate_s)
        self._left -= 1 + size / COST_BYTES
        self._at = now
        return max(0.0, -self._left * self._rate_s)


class Listener:
    """Passes what an agent reports to `tell` as the whole set of faults of its source.

    In the long run one answer is read in `rate_s` seconds.
    """

    def __init__(
        self, vendor: str, agent: Agent, path: Path, tell: Tell, rate_s: float = RATE_S
    ) -> None:
        self._vendor, self._agent, self._path, self._tell = vendor, agent, path, tell
        self._rate_s = rate_s
        self._devices: Callable[[], Sequence[Device]] = tuple
        self._reports = NO_REPORTS
        self._crowded = False
        self._problem: str | None = None
        self._heard_at: float | None = None

    async def run(self, devices: Callable[[], Sequence[Device]]) -> None:
        """Listen until cancelled; `devices` gives all devices of the node now."""
        self._devices = devices
        while True:
            if await asyncio.to_thread(_is_trusted, self._path):
                await self._listen()
            self._forget_stale()
            await asyncio.sleep(min(RETRY_S, self._agent.stale_s))

    async def _listen(self) -> None:
        try:
            async with grpc.aio.insecure_channel(f"unix:{self._path}", options=_OPTIONS) as channel:
                self._reports, pace = NO_REPORTS, Pace(self._rate_s, _now())
                async for message in self._messages(channel):
                    await self._read(message)
                    await asyncio.sleep(pace.wait_s(len(message), _now()))
            self._lost("the agent ended its answers")
        except grpc.aio.AioRpcError as error:
            self._lost(f"{error.code().name}: {error.details()}")
        except ValueError as error:
            self._lost(f"its message cannot be read: {error}")

    async def _messages(self, channel: grpc.aio.Channel) -> AsyncIterator[bytes]:
        agent = self._agent
        if agent.streams:
            async for message in channel.unary_stream(agent.method, None, None)(agent.request):
                yield message
            return
        ask = channel.unary_unary(agent.method, None, None)
        while True:
            yield await ask(agent.request, timeout=CALL_S)
            await asyncio.sleep(POLL_S)

    async def _read(self, message: bytes) -> None:
        agent, protocol = self._agent, self._agent.protocol
        parse = partial(protocol.parse, message, self._reports)
        reports = usable(parse() if len(message) < COST_BYTES else await asyncio.to_thread(parse))
        if self._heard_at is None or self._problem is not None:
            log.info("health_agent_answers", agent=agent.source, socket=str(self._path))
        self._problem, self._heard_at = None, _now()
        own = self._own()
        self._reports = bounded(reports, protocol, own)
        if len(self._reports) < len(reports):
            self._log_crowded()
        self._tell(agent.source, agent_faults(agent.source, protocol, self._reports, own))

    def devices_changed(self) -> None:
        """What was reported before its device was found counts from now on."""
        agent = self._agent
        if self._reports:
            self._tell(
                agent.source,
                agent_faults(agent.source, agent.protocol, self._reports, self._own()),
            )

    def _own(self) -> Sequence[Device]:
        return [device for device in self._devices() if device.vendor == self._vendor]

    def _log_crowded(self) -> None:
        """Once: such an agent goes on."""
        if not self._crowded:
            log.warning(
                "health_agent_crowded",
                agent=self._agent.source,
                reason=f"it has complaints about more than {MAX_REPORTS} GPUs",
                kept="the reports about this node's GPUs, then the latest",
            )
        self._crowded = True

    def _lost(self, problem: str) -> None:
        if problem != self._problem:
            log.warning("health_agent_lost", agent=self._agent.source, reason=problem)
        self._problem = problem

    def _forget_stale(self) -> None:
        now, after_s = _now(), self._agent.stale_s
        if self._heard_at is not None and now - self._heard_at >= after_s:
            log.warning("health_agent_stale", agent=self._agent.source, after_s=after_s)
            self._heard_at = None
            self._tell(self._agent.source, ())


def _now() -> float:
    return asyncio.get_running_loop().time()


def _is_trusted(path: Path) -> bool:
    """Whether a socket is there that root, or our own user, made."""
    try:
        return path.stat().st_uid in (0, os.getuid())
    except OSError:
        return False
