"""The daemon's work on this machine, step by step: lists, Allocate, preferences, health."""

import asyncio
import contextlib
import stat
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from deviceplugin.testing.admission import NotAllocatedError
from deviceplugin.testing.answers import Merged, merge_answers
from deviceplugin.testing.hardware.active import active_check
from deviceplugin.testing.hardware.daemon import LIMIT_S, Running
from deviceplugin.testing.hardware.values import Values, compared, of_page
from deviceplugin.testing.hardware.verdict import (
    Check,
    agree,
    differ,
    judged,
    not_available,
)
from deviceplugin.testing.plugin_client import RpcError
from deviceplugin.testing.pods import AdmissionError

Document = dict[str, Any]  # JSON
SETTLE_S = 5.0
_TELEMETRY = ("temperature", "power", "energy", "utilization", "memory_used")
_SERIES = "deviceplugin_gpu_"
POLL_S = 0.2
NEXT_S = 1.5  # samples are a second apart
ROUND_S = 5.0  # the first samples come a second after the first devices
_BAD_LEVELS = frozenset({"error", "critical"})


class Steps(Struct):
    """The steps with a daemon that runs; `planned` is `resources` of the document of `discover`.

    `gpus` are the ids of those that are whole, of which the first is tested. `tools` asks the
    vendors' tools what they measure, by their names, or why they do not tell; `answers` is what
    each resource's containers were given, for the capture.
    """

    node: Running
    planned: Mapping[str, Sequence[Mapping[str, str]]]
    limits: Mapping[str, int | None]
    host_root: Path
    watch_s: float
    tools: Callable[[], Mapping[str, Values | str]] = dict
    gpus: Sequence[str] = ()
    answers: dict[str, Document] = field(default_factory=dict)

    async def take(self) -> list[Check]:
        """All steps in order; where nothing is listed, only the log can tell more."""
        if not await self.node.serves():
            return [differ("registration", "the daemon did not start"), self._log()]
        listed = await self._listed()
        checks = [listed]
        for name in sorted(self.node.stub.capacity()):
            checks += [await self._allocate(name), await self._prefer(name)]
        if self.node.stub.capacity():
            checks.append(await self._health())
        checks += await asyncio.to_thread(self._telemetry)
        checks.append(await active_check(self.node, self.host_root, self.gpus))
        status = await self.node.end()
        return [*checks, self._log(), self._end(status)]

    async def _listed(self) -> Check:
        stub, wanted = self.node.stub, {name for name, ids in self.planned.items() if ids}
        try:
            await stub.wait_for(lambda: wanted <= stub.capacity().keys(), LIMIT_S)
        except TimeoutError:
            missing = ", ".join(sorted(wanted - stub.capacity().keys()))
            return differ("registration", f"no list of {missing} within {LIMIT_S:g} s")
        with contextlib.suppress(TimeoutError):  # health is asked after the first list
            await stub.wait_for(lambda: not self._differences(), SETTLE_S)
        problems = self._differences()
        counts = ", ".join(f"{name} {count}" for name, count in sorted(stub.capacity().items()))
        return judged("registration", problems, counts or "nothing to offer")

    def _differences(self) -> list[str]:
        names = sorted(self.node.stub.capacity())
        return [problem for name in names for problem in self._list_problems(name)]

    def _list_problems(self, name: str) -> Iterator[str]:
        """Where the list differs from what `discover` said."""
        planned = {entry["id"]: entry["health"] for entry in self.planned.get(name, ())}
        listed = {known.id: known.health for known in self.node.stub.devices(name).values()}
        for identity in sorted(planned.keys() | listed.keys()):
            said, has = planned.get(identity), listed.get(identity)
            if said != has:
                yield f"{identity} is {said or 'absent'} in discover, {has or 'absent'} here"

    async def _allocate(self, name: str) -> Check:
        """A container with one device, through admission, and one with as many as it may have."""
        title, stub = f"Allocate {name}", self.node.stub
        ids = self._healthy(name)
        if not ids:
            return not_available(title, "no healthy device")
        most = ids[: self.limits.get(name) or len(ids)]
        try:
            await stub.admit("one", {"main": {name: 1}})
            one = stub.merged("one", "main")
            stub.remove_pod("one")
            every = merge_answers((await stub.allocate(name, most, LIMIT_S)).container_responses)
        except (AdmissionError, NotAllocatedError, RpcError) as error:
            return differ(title, " ".join(str(error).split()))
        self.answers[name] = {"ids": list(ids), "one": given(one), "all": given(every)}
        problems = list(dict.fromkeys(p for m in (one, every) for p in self._answer_problems(m)))
        return judged(title, problems, f"1 and {len(most)} of {len(ids)}; {_summary(one)}")

    def _answer_problems(self, merged: Merged) -> Iterator[str]:
        if not any(given(merged).values()):
            yield "the container is given nothing"
        for path in (spec.host_path for spec in merged.devices.values()):
            found = self._at(path)
            if not found.exists():
                yield f"device node {path} does not exist"
            elif self.host_root == Path("/") and not stat.S_ISCHR(found.stat().st_mode):
                yield f"{path} is not a device node"
        for mount in merged.mounts.values():
            if not self._at(mount.host_path).exists():
                yield f"mount of {mount.host_path}, which does not exist"
        yield from merged.conflicts

    async def _prefer(self, name: str) -> Check:
        title, ids = f"preferred {name}", self._healthy(name)
        if not ids:
            return not_available(title, "no healthy device")
        try:
            if not (await self.node.stub.options(name)).get_preferred_allocation_available:
                return not_available(title, "not offered")
            chosen = {
                size: await self.node.stub.prefer(name, ids, (), size)
                for size in sorted({1, 2, 4, 8, len(ids)})
                if size <= len(ids)
            }
        except (NotAllocatedError, RpcError) as error:
            return differ(title, " ".join(str(error).split()))
        self.answers.setdefault(name, {})["preferred"] = {
            str(size): sorted(found) for size, found in chosen.items()
        }
        problems = list(_choice_problems(chosen, ids))
        return judged(title, problems, "of " + ", ".join(map(str, chosen)))

    async def _health(self) -> Check:
        """Whether anything changes while nobody does anything."""
        changes: list[str] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.watch_s):
                while True:
                    changes += await self._next_change(self._all_health())
        now = self._all_health().values()
        sick = sum(health != "Healthy" for health in now)
        fine = f"no change in {self.watch_s:g} s; {len(now) - sick} Healthy, {sick} Unhealthy"
        return judged("health watch", changes, fine)

    async def _next_change(self, before: Mapping[tuple[str, str], str]) -> list[str]:
        await self.node.stub.wait_for(lambda: self._all_health() != before, None)
        return list(_changes(before, self._all_health()))

    def _all_health(self) -> Mapping[tuple[str, str], str]:
        stub = self.node.stub
        return {
            (name, known.id): known.health
            for name in stub.capacity()
            for known in stub.devices(name).values()
        }

    def _telemetry(self) -> list[Check]:
        """Whether GPUs are measured, and what each tool says of the same."""
        if not self.node.stub.capacity():
            return [not_available("telemetry", "no device is listed")]
        address = next(
            (e["address"] for e in self.node.events() if e.get("event") == "metrics_served"), None
        )
        if address is None:
            return [differ("telemetry", "no metrics are served")]
        try:
            return self._measured(f"http://{address}/metrics")
        except OSError as error:
            return [differ("telemetry", f"/metrics: {error}")]

    def _measured(self, url: str) -> list[Check]:
        page, ends = "", time.monotonic() + ROUND_S
        while not (found := _measured(page)) and time.monotonic() < ends:
            time.sleep(POLL_S)
            page = _page(url)
        if not found and _SERIES in page:
            return [not_available("telemetry", "the driver tells no " + " or ".join(_TELEMETRY))]
        checks = [judged("telemetry", [] if found else ["no series of it"], ", ".join(found))]
        tools = self.tools() if found else {}
        time.sleep(NEXT_S if tools else 0)  # a round after what they say
        before, after = of_page(page), of_page(_page(url))
        for name, told in tools.items():
            if isinstance(told, str):
                checks.append(not_available(f"{name}: measured", told))
            else:
                checks += compared(name, told, before, after)
        return checks

    def _log(self) -> Check:
        events = self.node.events()
        bad = [_line(event) for event in events if event.get("level") in _BAD_LEVELS]
        warnings = [_line(event) for event in events if event.get("level") == "warning"]
        if bad:
            return differ("log", *bad, *warnings)
        return agree("log", "no error", *warnings)

    def _end(self, status: int | None) -> Check:
        problems = [*self.node.stub.crashes, *self.node.stub.violations]
        if status != 0:
            told = "it had to be killed" if status is None else f"exit status {status}"
            problems.append(f"after SIGTERM: {told}")
        return judged("end", problems, "exit status 0")

    def _healthy(self, name: str) -> tuple[str, ...]:
        listed = self.node.stub.devices(name).values()
        return tuple(sorted(known.id for known in listed if known.health == "Healthy"))

    def _at(self, host_path: str) -> Path:
        return self.host_root / host_path.lstrip("/")


def given(merged: Merged) -> Document:
    """What a container gets, as JSON values."""
    return {
        "env": dict(sorted(merged.envs.items())),
        "devices": sorted(f"{d.host_path} {d.permissions}" for d in merged.devices.values()),
        "mounts": sorted(m.host_path for m in merged.mounts.values()),
        "annotations": dict(sorted(merged.annotations.items())),
        "cdi_devices": list(merged.cdi_devices),
    }


def _summary(merged: Merged) -> str:
    parts = [
        ", ".join(sorted(merged.envs)),
        f"{len(merged.devices)} nodes" if merged.devices else "",
        f"{len(merged.mounts)} mounts" if merged.mounts else "",
        ", ".join(merged.cdi_devices),
    ]
    return "; ".join(part for part in parts if part)


def _choice_problems(chosen: Mapping[int, Iterable[str]], ids: Sequence[str]) -> Iterator[str]:
    for size, found in chosen.items():
        if len(set(found)) != size:
            yield f"of {size}: {len(set(found))} ids"
        if strange := set(found) - set(ids):
            yield f"of {size}: {', '.join(sorted(strange))} is not free"


def _changes(
    before: Mapping[tuple[str, str], str], now: Mapping[tuple[str, str], str]
) -> Iterator[str]:
    for key in sorted(before.keys() | now.keys()):
        was, became = before.get(key, "absent"), now.get(key, "absent")
        if was != became:
            yield f"{key[0]}: {key[1]} was {was} and became {became}"


def _line(event: Document) -> str:
    shown = {k: v for k, v in event.items() if k not in ("event", "level", "timestamp")}
    return f"{event.get('event')}: " + " ".join(f"{k}={v}" for k, v in sorted(shown.items()))[:300]


def _measured(page: str) -> list[str]:
    names = {line.partition("{")[0] for line in page.splitlines() if line.startswith(_SERIES)}
    return [word for word in _TELEMETRY if any(word in name for name in names)]


def _page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=LIMIT_S) as answer:  # noqa: S310  # our own http URL
        content: bytes = answer.read()
    return content.decode()
