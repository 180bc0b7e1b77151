"""The watch as a part: told once per change, and only what is certain."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from structlog.testing import capture_logs

from deviceplugin.bypass.service import Around, BypassPart
from deviceplugin.documents.access import Bypass as Section
from deviceplugin.documents.protection import Security
from deviceplugin.metrics.section import MetricsSection
from deviceplugin.model import AdvertisedID, Device, DeviceID, Inventory, ResourceName
from deviceplugin.resources.entries import Holder
from deviceplugin.resources.ledger import Holding, Ledger, PodResourcesReply
from tests.bypass.node import IN_POD, add_pod, add_process

GPU = ResourceName("nvidia.com/gpu")
DEVICE = Device(id=DeviceID("GPU-0"), vendor="nvidia", resource=GPU, nodes=("/dev/nvidia0",))
ON = {"security": Security(bypass=Section())}


class Config(Struct, frozen=True):
    sections: Mapping[str, Any]
    host_root: Path


class Rig:
    """A part on a node with one GPU, whose looks a test makes one by one."""

    def __init__(self, root: Path, sections: Mapping[str, Any] = ON) -> None:
        self.root, self.told = root, list[tuple[str, str, Mapping[str, Any]]]()
        self.ledger = Ledger(lambda: self.now_s)
        self.now_s = 1000.0
        inventory = Inventory(devices={DEVICE.id: DEVICE})
        around = Around(
            inventory=lambda: inventory,
            ledger=self.ledger,
            tell=lambda kind, device, data: self.told.append((kind, device, data)),
        )
        self.config = Config(sections, root)
        self.part = BypassPart(self.config, around)
        add_process(root, 1, "0::/init.scope", namespace=1)
        add_pod(root, "team", "train")

    def answer(self, *pods: str) -> None:
        """The kubelet says that these pods hold the GPU."""
        holdings = [
            Holding(
                resource=GPU,
                id=AdvertisedID(DEVICE.id),
                holder=Holder(namespace="team", pod=pod, container="main"),
                numa_node=None,
            )
            for pod in pods
        ]
        reply = PodResourcesReply(holdings=tuple(holdings), pods=frozenset())
        self.ledger.observe(reply, self.now_s)

    async def look(self) -> float:
        section = self.config.sections["security"].bypass
        return await self.part._turn(section)

    def metrics(self) -> str:
        lines = [line for family in self.part.collect() for line in family.lines()]
        return "\n".join(lines)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_what_is_seen_twice_is_told_once_and_its_end(rig: Rig) -> None:
    rig.answer()
    add_process(rig.root, 70, IN_POD, "/dev/nvidia0")
    with capture_logs() as logs:
        assert await rig.look() == 10.0  # soon again: once is not certain
        assert (rig.part.notice, logs) == ("", [])
        assert await rig.look() == 60.0
        await rig.look()
    assert [(one["event"], one["pod"], one["pids"]) for one in logs] == [
        ("gpu_bypassed", "train", [70])
    ]
    assert rig.part.notice == "unallocated: pod team/train uses GPU-0"
    assert 'deviceplugin_bypass_processes{device="GPU-0"} 1' in rig.metrics()
    (rig.root / "proc/70/fd/2").unlink()
    with capture_logs() as logs:
        await rig.look()
    assert [one["event"] for one in logs] == ["gpu_bypass_ended"]
    assert [kind for kind, _, _ in rig.told] == ["access.bypass", "access.bypass_ended"]
    assert rig.told[0][2] == {"namespace": "team", "pod": "train", "pids": [70]}
    assert rig.part.notice == ""


async def test_who_holds_the_gpu_is_never_told(rig: Rig) -> None:
    rig.answer("train")
    add_process(rig.root, 70, IN_POD, "/dev/nvidia0")
    for _ in range(3):
        assert await rig.look() == 60.0
    assert (rig.part.notice, rig.told) == ("", [])


async def test_nobody_is_judged_before_the_kubelet_has_answered(rig: Rig) -> None:
    add_process(rig.root, 70, IN_POD, "/dev/nvidia0")
    assert [await rig.look() for _ in range(3)] == [10.0] * 3
    assert "deviceplugin_bypass_processes" not in rig.metrics()


async def test_nobody_is_judged_while_a_new_pod_may_hold_it(rig: Rig) -> None:
    rig.answer()
    rig.now_s += 1
    with rig.ledger.reserving(GPU, [AdvertisedID(DEVICE.id)]):
        pass
    add_process(rig.root, 70, IN_POD, "/dev/nvidia0")
    for _ in range(3):
        await rig.look()
    assert (rig.part.notice, rig.told) == ("", [])


async def test_why_nobody_can_look_is_told_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.answer()
    (tmp_path / "proc").rename(tmp_path / "elsewhere")
    with capture_logs() as logs:
        await rig.look()
        await rig.look()
    assert [one["event"] for one in logs] == ["bypass_not_watched"]
    assert "/proc is not to be seen" in rig.part.notice
    assert "deviceplugin_bypass_failing 1" in rig.metrics()


async def test_metrics_name_pods_where_metrics_do(tmp_path: Path) -> None:
    rig = Rig(tmp_path, {**ON, "metrics": MetricsSection(pods=True)})
    rig.answer()
    add_process(tmp_path, 70, IN_POD, "/dev/nvidia0")
    await rig.look()
    await rig.look()
    assert '{device="GPU-0",namespace="team",pod="train"} 1' in rig.metrics()


async def test_off_nothing_is_shown_and_on_it_begins(tmp_path: Path) -> None:
    rig = Rig(tmp_path, {})
    rig.answer()
    add_process(tmp_path, 70, IN_POD, "/dev/nvidia0")
    task = asyncio.create_task(rig.part._run())
    try:
        await asyncio.sleep(0)
        assert rig.metrics() == ""
        await rig.part.use(Config(ON, tmp_path))
        async with asyncio.timeout(30):
            while "deviceplugin_bypass_processes" not in rig.metrics():  # noqa: ASYNC110  # it has no event
                await asyncio.sleep(0.01)
        await rig.part.use(Config({}, tmp_path))
        async with asyncio.timeout(30):
            while rig.part._found is not None:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("bypass", "text"),
    [
        ({"interval": "1s"}, "interval: a time from 10s to 1d"),
        ({"interval": "2d"}, "interval: a time from 10s to 1d"),
        ({"allowed": ["Team"]}, "allowed: names of namespaces"),
    ],
)
def test_a_section_that_cannot_be_is_refused(bypass: Mapping[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Section(**bypass)
