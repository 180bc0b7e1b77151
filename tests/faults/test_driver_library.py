"""A driver library that hangs, lies or crashes, in the daemon's process and in one of its own.

Beside it on the node: an AMD GPU, and a pod that holds every NVIDIA device.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.testing.amd import amd_tree
from deviceplugin.testing.tree import write_tree
from tests.fakes.nvml import MIG_CONFIG_EVENT, Gpu, NvmlDouble, Scenario, gpu_uuid
from tests.rig import GPU, MIG_1G, MIG_2G, MIG_3G, WAIT_S, DaemonProcess, Rig
from tests.vendors.amd.amd_nodes import mi300x

AMD = "amd.com/gpu"
ALL = {GPU: 6, MIG_1G: 9, MIG_2G: 1, MIG_3G: 1}
NONE = dict.fromkeys(ALL, 0)
WITHOUT_GPU_2, WITHOUT_GPU_7 = ALL | {GPU: 5}, ALL | {MIG_1G: 2}
UUID_OF = [gpu_uuid(index).encode() for index in range(8)]
NOTHING = os.path.realpath(os.devnull)
T = TypeVar("T")
Spoil = Callable[[NvmlDouble], None]
RecordProperty = Callable[[str, object], None]


class Node(Struct):
    """The node, its daemon, and what is true of it whatever the library says."""

    rig: Rig
    nvml: NvmlDouble
    daemon: DaemonProcess
    truth: Scenario
    ids: Mapping[str, set[str]]

    async def lists(self, wanted: Mapping[str, int]) -> None:
        """Wait until exactly so many NVIDIA devices are Healthy; see `unharmed`.

        Looks come at once, as after a change of the MIG layout, not after five seconds.
        """
        async with asyncio.timeout(WAIT_S):
            while not wanted.items() <= self.rig.stub.allocatable().items():
                self.nvml.raise_event(0, 0, type=MIG_CONFIG_EVENT)
                with suppress(TimeoutError):
                    await self.rig.allocatable(wanted, timeout_s=0.5)
        await self.unharmed()

    async def unharmed(self) -> None:
        """Every device is listed, none that is not there, and the rest of the node serves."""
        assert {name: set(self.rig.stub.devices(name)) for name in ALL} == self.ids
        assert self.rig.stub.capacity() == ALL | {AMD: 8}
        assert self.rig.stub.allocatable()[AMD] == 8
        await self.rig.one_of_each([AMD])
        await self.daemon.answers("/healthz")
        assert self.rig.stub.crashes == []

    async def looks(self) -> None:
        """Wait until two more discoveries have come to their end, whatever it is."""
        before = await self._looks()
        await until(self._looks, lambda looks: looks >= before + 2)

    async def _looks(self) -> float:
        self.nvml.raise_event(0, 0, type=MIG_CONFIG_EVENT)
        return await self.daemon.discoveries("nvidia")

    async def recovers(self, record_property: RecordProperty, name: str) -> None:
        """Let the library behave; tell the time until all that was there is served again."""
        began = time.monotonic()
        self.nvml.write(self.truth)
        await self.rig.allocatable(ALL)
        record_property("recovery_s", (name, round(time.monotonic() - began, 3)))
        await self.unharmed()
        assert self.daemon.events("vendor_raised") == []

    async def hears(self) -> None:
        """Wait until an event takes GPU 2 away: events from before the registration are lost."""
        async with asyncio.timeout(WAIT_S):
            while self.rig.stub.allocatable()[GPU] != 5:
                self.nvml.raise_event(2, 95)
                with suppress(TimeoutError):
                    await self.rig.allocatable(WITHOUT_GPU_2, timeout_s=0.5)

    async def ended(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many library processes have ended; the events."""
        return await self._events("library_process_ended", count)

    async def child(self, number: int = 1) -> psutil.Process:
        """The library process that was started as the `number`-th."""
        events = await self._events("library_process_started", number)
        return psutil.Process(events[number - 1]["pid"])

    async def _events(self, name: str, count: int) -> list[dict[str, Any]]:
        async def read() -> list[dict[str, Any]]:
            return self.daemon.events(name)

        return await until(read, lambda events: len(events) >= count)


async def until(read: Callable[[], Awaitable[T]], wanted: Callable[[T], bool]) -> T:
    """What `read` gives as soon as it is wanted."""
    async with asyncio.timeout(WAIT_S):
        while not wanted(found := await read()):  # noqa: ASYNC110  # it is in a log or a page
            await asyncio.sleep(0.05)
    return found


async def started(rig: Rig, nvml: NvmlDouble, *, child: bool) -> Node:
    """The node with all its devices listed, and held by a pod."""
    write_tree(rig.host_root, amd_tree([mi300x()], []))
    config = (
        f"nvidia: {{library_process: {str(child).lower()}}}\nhealth: {{hold_s: 0, flap_limit: 100}}"
    )
    await rig.stub.start()
    daemon = rig.start("--config", str(rig.config(config)))
    await rig.capacity(ALL | {AMD: 8})
    await rig.allocatable(ALL)
    await rig.stub.admit("holder", {"main": ALL})
    ids = {name: set(rig.stub.devices(name)) for name in ALL}
    return Node(rig, nvml, daemon, nvml.scenario, ids)


both = pytest.mark.parametrize("child", [False, True], ids=["in_process", "child"])


def where(child: bool) -> str:
    return " in a child" if child else ""


def lie(function: str, gpu: int | None = None, **told: Any) -> Spoil:
    return lambda nvml: nvml.lie(function, gpu, **told)


def gpu_is(index: int, **values: int) -> Spoil:
    def change(gpu: Gpu) -> Gpu:
        return replace(gpu, **values)

    return lambda nvml: nvml.update_gpu(index, change)


def fails_unspeakably(nvml: NvmlDouble) -> None:
    nvml.lie("nvmlErrorString", text=b"\xff\xfe")
    nvml.fail("nvmlDeviceGetMemoryInfo", 4242, gpu=2)


Lies = Mapping[str, tuple[Spoil, Mapping[str, int]]]
IDENTITY: Lies = {
    "uuid is no text": (lie("nvmlDeviceGetUUID", 2, text=b"GPU-\xff\xfe\x80"), WITHOUT_GPU_2),
    "uuid is empty": (lie("nvmlDeviceGetUUID", 2, text=b""), WITHOUT_GPU_2),
    "uuid never ends": (lie("nvmlDeviceGetUUID", 2, text=b"G" * 4096), WITHOUT_GPU_2),
    "uuid of another": (lie("nvmlDeviceGetUUID", 2, text=UUID_OF[3]), ALL | {GPU: 4}),
    "instances with one uuid": (lie("nvmlDeviceGetUUID", 7, text=UUID_OF[7]), WITHOUT_GPU_7),
    "PCI bus 4096": (lie("nvmlDeviceGetPciInfo*", 2, number=4096), WITHOUT_GPU_2),
}
SIZES: Lies = {
    "no memory to share": (gpu_is(7, memory_total_bytes=0), WITHOUT_GPU_7),
    "instance larger than its GPU": (
        lie("nvmlDeviceGetAttributes*", 7, number=1 << 40),
        WITHOUT_GPU_7,
    ),
    "countless instances": (
        lie("nvmlDeviceGetMaxMigDeviceCount", 7, number=0xFFFFFFFF),
        WITHOUT_GPU_7,
    ),
    "no instances": (lie("nvmlDeviceGetMaxMigDeviceCount", 7, number=0), WITHOUT_GPU_7),
}
COUNTS_AND_CODES: Lies = {
    "countless GPUs": (lie("nvmlDeviceGetCount", number=0xFFFFFFFF), NONE),
    "fewer GPUs than there are": (lie("nvmlDeviceGetCount", number=5), NONE | {GPU: 5}),
    "no GPUs": (lie("nvmlDeviceGetCount", number=0), NONE),
    "every code unknown": (lambda nvml: nvml.fail("nvmlDevice*", 4242), NONE),
}
HARMLESS: Mapping[str, Spoil] = {
    "more GPUs than handles": lie("nvmlDeviceGetCount", number=12),
    "name is no text": lie("nvmlDeviceGetName", 2, text=b"\xc3\x28"),
    "versions are no text": lie("nvmlSystemGet*Version", text=b"\xff"),
    "enums without a meaning": gpu_is(2, architecture=4096, virtualization=77, compute_mode=99),
    "no memory": gpu_is(2, memory_total_bytes=0),
    "memory of 16 EiB": gpu_is(2, memory_total_bytes=(1 << 64) - 1),
    "unknown code, its text is none": fails_unspeakably,
    "negative code": lambda nvml: nvml.fail("nvmlDeviceGetMemoryInfo", 0xFFFFFFFF, gpu=2),
    "events of an unknown GPU": lie("nvmlEventSetWait*", number=0xDEADBEEF),
    "events of no GPU": lie("nvmlEventSetWait*", number=0),
}


@both
@pytest.mark.parametrize(
    "lies",
    [IDENTITY, SIZES, COUNTS_AND_CODES],
    ids=["identity", "sizes", "counts_and_codes"],
)
async def test_a_lie_costs_what_it_is_about(
    rig: Rig, nvml: NvmlDouble, record_property: RecordProperty, child: bool, lies: Lies
) -> None:
    node = await started(rig, nvml, child=child)
    for name, (spoil, left) in lies.items():
        spoil(nvml)
        await node.lists(left)
        began = time.monotonic()
        nvml.write(node.truth)
        await node.lists(ALL)
        told = f"NVML lies{where(child)}: {name} (looked at once)"
        record_property("recovery_s", (told, round(time.monotonic() - began, 3)))
    assert node.daemon.events("vendor_raised") == []
    assert node.daemon.events("library_process_ended") == []


@both
async def test_nonsense_that_no_device_depends_on_costs_none(
    rig: Rig, nvml: NvmlDouble, child: bool
) -> None:
    node = await started(rig, nvml, child=child)
    for name, spoil in HARMLESS.items():
        spoil(nvml)
        await node.looks()
        assert node.rig.stub.allocatable() == ALL | {AMD: 8}, name
        nvml.write(node.truth)
    await node.unharmed()
    # Handles that NVML counts and does not give are reported, and are no device of the node.
    unhealthy = {event["device"] for event in node.daemon.events("device_unhealthy")}
    assert unhealthy == {f"nvml-{index}" for index in range(8, 12)}


@both
async def test_a_library_that_hangs_in_a_look_is_told_and_comes_back(
    rig: Rig, nvml: NvmlDouble, record_property: RecordProperty, child: bool
) -> None:
    node = await started(rig, nvml, child=child)
    nvml.hang("nvmlDeviceGetMemoryInfo", gpu=2)
    await node.lists(NONE)
    told = await node.daemon.wait_event("vendor_waits", vendor="nvidia")
    assert ("did not answer within" if child else "no answer within") in told["reason"]
    await node.recovers(record_property, f"NVML hangs{where(child)} in a look")


@both
async def test_a_gpu_that_hangs_when_it_is_probed_costs_itself(
    rig: Rig, nvml: NvmlDouble, record_property: RecordProperty, child: bool
) -> None:
    node = await started(rig, nvml, child=child)
    nvml.hang("nvmlDeviceGetTotalEnergyConsumption", gpu=2)
    await node.lists(WITHOUT_GPU_2)
    fault = await node.daemon.wait_event("fault", device=gpu_uuid(2))
    assert fault["code"] == "no_answer"
    await node.recovers(record_property, f"NVML hangs{where(child)} in a probe")


async def test_a_child_asks_the_other_gpus_while_one_hangs(rig: Rig, nvml: NvmlDouble) -> None:
    node = await started(rig, nvml, child=True)
    nvml.hang("nvmlDeviceGetTotalEnergyConsumption", gpu=2)
    await node.lists(WITHOUT_GPU_2)
    nvml.update_gpu(3, lambda gpu: replace(gpu, recovery_action=1))
    await node.lists(ALL | {GPU: 4})


@both
async def test_a_wait_for_events_that_hangs_costs_no_device(
    rig: Rig, nvml: NvmlDouble, record_property: RecordProperty, child: bool
) -> None:
    node = await started(rig, nvml, child=child)
    nvml.hang("nvmlEventSetWait*")
    if child:
        (event,) = await node.ended()
        assert "the wait for events did not return" in event["reason"]
    else:
        nvml.update_gpu(3, lambda gpu: replace(gpu, recovery_action=1))
        await node.lists(ALL | {GPU: ALL[GPU] - 1})
        nvml.update_gpu(3, lambda gpu: replace(gpu, recovery_action=0))
    await node.lists(ALL)
    began = time.monotonic()
    nvml.write(node.truth)
    await node.hears()
    told = (f"NVML hangs{where(child)} in the wait for events", time.monotonic() - began)
    record_property("recovery_s", told)


@both
async def test_a_library_that_hangs_from_the_start_keeps_no_other_vendor_waiting(
    rig: Rig, nvml: NvmlDouble, record_property: RecordProperty, child: bool
) -> None:
    write_tree(rig.host_root, amd_tree([mi300x()], []))
    truth = nvml.scenario
    nvml.hang("nvmlInit*")
    await rig.stub.start()
    config = rig.config(f"nvidia: {{library_process: {str(child).lower()}}}")
    daemon = rig.start("--config", str(config))
    await daemon.wait_event("vendor_waits", vendor="nvidia")
    await rig.capacity({AMD: 8})
    started_s = time.monotonic()
    nvml.write(truth)
    await rig.allocatable(ALL)
    told = (f"NVML hangs{where(child)} at the start", round(time.monotonic() - started_s, 3))
    record_property("recovery_s", told)


async def test_a_crash_in_a_look_costs_nvidias_answers_for_its_time(
    rig: Rig, nvml: NvmlDouble, record_property: RecordProperty
) -> None:
    node = await started(rig, nvml, child=True)
    nvml.crash("nvmlDeviceGetMemoryInfo", gpu=2)
    await node.lists(NONE)
    told = await node.daemon.wait_event("vendor_waits", vendor="nvidia")
    assert "it died of SIGSEGV" in told["reason"]
    await node.recovers(record_property, "NVML's process crashes in a look")


@pytest.mark.parametrize(
    ("function", "call"),
    [("nvmlDeviceGetTotalEnergyConsumption", "a probe"), ("nvmlEventSetWait*", "the event wait")],
    ids=["probe", "event_wait"],
)
async def test_a_crash_beside_the_look_costs_no_device(
    rig: Rig, nvml: NvmlDouble, record_property: RecordProperty, function: str, call: str
) -> None:
    node = await started(rig, nvml, child=True)
    nvml.crash(function)
    await node.ended(2)
    await node.lists(ALL)
    assert node.daemon.events("device_unhealthy") == []
    began = time.monotonic()
    nvml.write(node.truth)
    await node.hears()
    told = (f"NVML's process crashes in {call}", round(time.monotonic() - began, 3))
    record_property("recovery_s", told)


async def test_a_library_that_crashes_from_the_start_is_found_when_it_is_mended(
    rig: Rig, nvml: NvmlDouble, record_property: RecordProperty
) -> None:
    truth = nvml.scenario
    nvml.crash("nvmlInit*", "abort")
    await rig.stub.start()
    daemon = rig.start("--config", str(rig.config("nvidia: {library_process: true}")))
    told = await daemon.wait_event("vendor_waits", vendor="nvidia")
    assert "it died of SIGABRT" in told["reason"]
    started_s = time.monotonic()
    nvml.write(truth)
    await rig.allocatable(ALL)
    told_s = round(time.monotonic() - started_s, 3)
    record_property("recovery_s", ("NVML's process crashes at the start", told_s))


async def test_memory_without_end_is_the_childs_alone(
    rig: Rig, nvml: NvmlDouble, record_property: RecordProperty
) -> None:
    node = await started(rig, nvml, child=True)
    before = psutil.Process(node.daemon.process.pid).memory_info().rss
    gpu_is(2, architecture=5, retired_single=1 << 30)(nvml)  # pynvml makes room for all of them
    (event, *_) = await node.ended()
    assert event["reason"] == "it gave no answer"
    assert psutil.Process(node.daemon.process.pid).memory_info().rss < before + (16 << 20)
    await node.unharmed()
    await node.recovers(record_property, "NVML's process takes memory without end")


async def test_a_child_that_dies_idle_is_replaced_before_anything_is_lost(
    rig: Rig, nvml: NvmlDouble, record_property: RecordProperty
) -> None:
    node = await started(rig, nvml, child=True)
    began = time.monotonic()
    (await node.child()).send_signal(signal.SIGSEGV)
    await node.child(2)
    told = ("NVML's process dies idle, until the next runs", round(time.monotonic() - began, 3))
    record_property("recovery_s", told)
    await node.looks()
    await node.lists(ALL)
    assert node.daemon.events("device_unhealthy") == []
    await node.hears()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
async def test_a_hung_child_ends_with_the_daemon_however_that_ends(
    rig: Rig, nvml: NvmlDouble, number: signal.Signals
) -> None:
    node = await started(rig, nvml, child=True)
    child = await node.child()
    nvml.hang()  # the wait for events, at once
    await node.daemon.stop(number)
    await asyncio.to_thread(_wait_end, child)


def _wait_end(process: psutil.Process) -> None:
    """An orphan that has ended may stay a zombie where nobody reaps it."""
    ends = time.monotonic() + WAIT_S
    with suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < ends, "it is still there"
            time.sleep(0.02)


async def test_the_child_has_nothing_open_that_is_the_daemons(rig: Rig, nvml: NvmlDouble) -> None:
    node = await started(rig, nvml, child=True)
    ours, theirs = map(open_files, (node.daemon.process.pid, (await node.child()).pid))
    assert set(theirs.values()) & set(ours.values()) <= {ours[2], NOTHING}
    assert not [name for name in theirs.values() if ".sock" in name or "kubelet" in name]
    assert sum(name.startswith("socket:") for name in theirs.values()) <= 4


def open_files(pid: int) -> dict[int, str]:
    """What the file descriptors of a process stand for."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[int(link.name)] = os.readlink(link)
    return found


async def test_in_process_no_child_is_started(rig: Rig, nvml: NvmlDouble) -> None:
    node = await started(rig, nvml, child=False)
    assert psutil.Process(node.daemon.process.pid).children() == []
