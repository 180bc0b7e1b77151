"""The watch for GPUs that are used unallocated, as a part of the daemon; off, it costs nothing."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from msgspec import Struct

from deviceplugin.bypass.section import Wanted, wanted
from deviceplugin.metrics.section import shows_pods
from deviceplugin.model import DeviceID, Inventory
from deviceplugin.resources.ledger import Ledger
from deviceplugin.runtime.part import Collector, Once, Part, Sectioned, Series
from deviceplugin.runtime.waking import woken

if TYPE_CHECKING:  # who does not watch does not pay for it
    from deviceplugin.bypass.judge import Bypass, Found, Held, Seen

log = structlog.get_logger()
AGAIN_S = 10.0  # what is found counts when it is found a second time
_SHOWN = 3


class OfHost(Sectioned, Protocol):
    """A configuration that also says where the host's files are seen."""

    @property
    def host_root(self) -> Path:
        """The host's root."""


class Around(Struct, frozen=True, kw_only=True):
    """What the watch works with; `tell` writes to the audit log: kind, device, what else."""

    inventory: Callable[[], Inventory]
    ledger: Ledger
    tell: Callable[[str, str, Mapping[str, Any]], None]


class BypassPart(Part[OfHost]):
    """Looks now and then while its section is on."""

    def __init__(self, config: OfHost, around: Around, again_s: float = AGAIN_S) -> None:
        self._config, self._around, self._again_s = config, around, again_s
        self._changed = asyncio.Event()
        self._before: frozenset[Bypass] = frozenset()
        self._found: Found | None = None
        self._unseen, self.problem_text = 0, ""

    def tasks(self) -> Mapping[str, Once]:
        """The looks."""
        return {"bypass": self._run}

    async def use(self, config: OfHost) -> None:
        """By the new section from now on."""
        self._config = config
        self._changed.set()

    def collectors(self) -> Mapping[str, Collector]:
        """Nothing while it is off."""
        return {"bypass": self}

    def collect(self) -> Iterable[Series]:
        """From any thread."""
        if wanted(self._config.sections) is None:
            return ()
        from deviceplugin.bypass.metrics import Shown, series_of  # noqa: PLC0415  # where it is on

        return series_of(
            Shown(
                found=self._found,
                unseen=self._unseen,
                failing=bool(self.problem_text),
                pods=shows_pods(self._config.sections),
            )
        )

    @property
    def notice(self) -> str:
        """What is used unallocated, or why nobody can look; empty for nothing."""
        if self.problem_text:
            return f"nobody looks who uses GPUs unallocated: {self.problem_text}"
        found = self._found or {}
        texts = [f"{_who(one)} uses {one.device}" for one in list(found)[:_SHOWN]]
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return f"unallocated: {'; '.join(texts)}{more}" if texts else ""

    async def _run(self) -> None:
        while True:
            section = wanted(self._config.sections)
            wait_s: float | None = None
            if section is not None:
                wait_s = await self._turn(section)
            else:
                self._before, self._found, self.problem_text = frozenset(), None, ""
            await woken(self._changed, wait_s)

    async def _turn(self, section: Wanted) -> float:
        """Look once; in how many seconds to look again."""
        if not self._around.ledger.answered:  # the kubelet has not told yet who holds what
            return min(section.interval_s, self._again_s)
        from deviceplugin.bypass.judge import judged, own_nodes  # noqa: PLC0415  # where it is on
        from deviceplugin.bypass.look import look  # noqa: PLC0415
        from deviceplugin.host import Host  # noqa: PLC0415

        nodes = own_nodes(self._around.inventory().devices.values())
        seen = await asyncio.to_thread(look, Host(self._config.host_root), Host(), nodes)
        self._tell_problem(seen)
        now = judged(seen.openers, nodes, self._held(), section.allowed)
        known = self._found or {}
        sure = {one: pids for one, pids in now.items() if one in self._before or one in known}
        self._compare(known, sure)
        self._found, self._unseen = sure, seen.unseen
        unsure = now.keys() - sure.keys()
        self._before = frozenset(now)
        return min(section.interval_s, self._again_s) if unsure else section.interval_s

    def _held(self) -> "Held":
        from deviceplugin.bypass.judge import Held  # noqa: PLC0415  # as above

        by_device: dict[DeviceID, set[tuple[str, str]]] = {}
        for (namespace, pod, _), _, device in self._around.ledger.held():
            by_device.setdefault(device, set()).add((namespace, pod))
        entries = self._around.ledger.entries
        unknown = [one.suspects for one in entries.values() if one.holder is None]
        sure = [pods for pods in unknown if pods is not None]
        return Held(
            by_device={device: frozenset(pods) for device, pods in by_device.items()},
            perhaps=frozenset().union(*sure) if len(sure) == len(unknown) else None,
        )

    def _tell_problem(self, seen: "Seen") -> None:
        if seen.problem and not self.problem_text:
            log.warning("bypass_not_watched", reason=seen.problem)
        self.problem_text = seen.problem

    def _compare(self, before: "Found", after: "Found") -> None:
        """Tell what is new, and what has ended."""
        for one in after.keys() - before.keys():
            about = {**_about(one), "pids": list(after[one])}
            log.warning("gpu_bypassed", device=one.device, **about)
            self._around.tell("access.bypass", one.device, about)
        for one in before.keys() - after.keys():
            log.info("gpu_bypass_ended", device=one.device, **_about(one))
            self._around.tell("access.bypass_ended", one.device, _about(one))


def _about(one: "Bypass") -> dict[str, Any]:
    if one.pod:
        return {"namespace": one.namespace, "pod": one.pod}
    return {"container": one.container}


def _who(one: "Bypass") -> str:
    return f"pod {one.namespace}/{one.pod}" if one.pod else f"container {one.container}"
