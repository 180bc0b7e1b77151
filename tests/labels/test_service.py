"""Labels as a part of the daemon: a feature file, or the node's own labels by the API server."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import structlog

from deviceplugin.config.config import Config
from deviceplugin.documents.needs import Workload, Workloads
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.labels.follow import Follower, target_of
from deviceplugin.labels.section import LabelsSection, Taint
from deviceplugin.labels.service import LabelsPart
from deviceplugin.labels.sources import Sources
from deviceplugin.model import ContainerEdits, Discovery, ResourceName
from deviceplugin.resources.plan import plan_resources
from deviceplugin.vendor import LabelView
from tests.kubernetes.stub import ApiStub, api_stub
from tests.labels.nodes import gpu

WAIT_S = 60.0


class Acme:
    """A vendor whose own tool labels nodes."""

    name = "nvidia"

    def __init__(self) -> None:
        self.labels: dict[str, str] = {"acme.example/gpu": "yes", "deviceplugin/link-domain": "a.1"}
        self.fails = False

    def discover(self) -> Discovery:
        return Discovery()

    def container_edits(self, devices: object) -> ContainerEdits:
        return ContainerEdits()

    def node_labels(self, view: LabelView) -> Mapping[str, str]:
        if self.fails:
            raise RuntimeError("no answer")
        return self.labels if view.devices else {}


class Node:
    """A node whose devices, clock and readiness a test sets."""

    def __init__(self) -> None:
        self.store = InventoryStore(lambda: 0.0)
        self.vendor, self.now, self.ready = Acme(), 1000.0, True
        self.store.set_devices("nvidia", [gpu(0)])

    @property
    def sources(self) -> Sources:
        return Sources(
            inventory=lambda: self.store.current,
            resources=lambda: plan_resources(self.store.current).resources,
            vendors=lambda: (self.vendor,),
            ready=lambda: self.ready,
            now=lambda: self.now,
        )

    def follower(self, section: LabelsSection, api: ApiStub | None = None) -> Follower:
        access = (lambda: api.access) if api else None
        return Follower(section, target_of(section, "node-1", access), self.sources)


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def api() -> Iterator[ApiStub]:
    with api_stub() as stub:
        yield stub


def lines(folder: Path) -> list[str]:
    return (folder / "deviceplugin").read_text().splitlines()


async def test_the_file_has_the_labels_and_when_they_end(node: Node, tmp_path: Path) -> None:
    section = LabelsSection(apply="file", directory=str(tmp_path / "features.d"))
    await node.follower(section).look()
    written = lines(tmp_path / "features.d")
    assert "# +expiry-time=1970-01-01T01:16:40Z" in written
    assert "deviceplugin/gpu.product=NVIDIA-H100" in written
    assert "deviceplugin/link-domain=a.1" in written
    assert "acme.example/gpu=yes" not in written
    others = tmp_path / "features.d/deviceplugin"
    assert others.stat().st_mode & 0o777 == 0o644
    assert others.parent.stat().st_mode & 0o777 == 0o755


async def test_a_vendors_own_labels_are_an_option(node: Node, tmp_path: Path) -> None:
    section = LabelsSection(apply="file", directory=str(tmp_path), vendor_labels=True)
    await node.follower(section).look()
    assert "acme.example/gpu=yes" in lines(tmp_path)


async def test_a_label_that_kubernetes_would_refuse_is_left_out_and_logged_once(
    node: Node, tmp_path: Path
) -> None:
    node.vendor.labels["acme.example/bad"] = "no value"
    section = LabelsSection(apply="file", directory=str(tmp_path), vendor_labels=True)
    follower = node.follower(section)
    with structlog.testing.capture_logs() as logs:
        await follower.look()
        node.store.set_devices("nvidia", [gpu(0), gpu(1)])
        await follower.look()
    assert [(one["event"], one["label"]) for one in logs] == [("label_refused", "acme.example/bad")]
    assert "acme.example/gpu=yes" in lines(tmp_path)


async def test_of_a_vendor_that_fails_the_last_labels_stay(node: Node, tmp_path: Path) -> None:
    section = LabelsSection(apply="file", directory=str(tmp_path))
    follower = node.follower(section)
    await follower.look()
    node.vendor.fails = True
    node.store.set_devices("nvidia", [gpu(0), gpu(1)])
    with structlog.testing.capture_logs() as logs:
        await follower.look()
    assert "labels_incomplete" in [one["event"] for one in logs]
    assert {"deviceplugin/gpu.count=2", "deviceplugin/link-domain=a.1"} <= set(lines(tmp_path))


async def test_the_file_is_renewed_before_it_ends(node: Node, tmp_path: Path) -> None:
    section = LabelsSection(apply="file", directory=str(tmp_path), expires_s=240)
    follower = node.follower(section)
    await follower.look()
    before = lines(tmp_path)
    node.now += 100
    await follower.look()
    assert lines(tmp_path) == before
    node.now += 21
    await follower.look()
    assert lines(tmp_path) != before


async def test_what_cannot_be_taken_away_ends_nothing_else(node: Node, api: ApiStub) -> None:
    follower = node.follower(LabelsSection(apply="api"), api)
    await follower.look()
    api.failures = [403]
    with structlog.testing.capture_logs() as logs:
        await follower.end(clear=True)
    assert [one["event"] for one in logs] == ["labels_not_written"]


async def test_nothing_is_written_before_every_vendor_has_looked(
    node: Node, tmp_path: Path
) -> None:
    node.ready = False
    await node.follower(LabelsSection(apply="file", directory=str(tmp_path))).look()
    assert list(tmp_path.iterdir()) == []


async def test_a_node_that_has_lost_its_gpus_has_no_file(node: Node, tmp_path: Path) -> None:
    follower = node.follower(LabelsSection(apply="file", directory=str(tmp_path)))
    await follower.look()
    node.store.set_devices("nvidia", [])
    await follower.look()
    assert list(tmp_path.iterdir()) == []


async def test_a_directory_that_cannot_be_written_is_told_once(node: Node, tmp_path: Path) -> None:
    (tmp_path / "features.d").write_text("no directory")
    section = LabelsSection(apply="file", directory=str(tmp_path / "features.d"))
    follower = node.follower(section)
    with structlog.testing.capture_logs() as logs:
        await follower.look()
        node.now += 61
        await follower.look()
    assert [one["event"] for one in logs] == ["labels_not_written"]


async def test_the_api_server_gets_labels_and_taints_and_others_stay(
    node: Node, api: ApiStub
) -> None:
    taint = Taint(key="nvidia.com/gpu", effect="NoSchedule", value="present")
    section = LabelsSection(apply="api", common_labels=True, taints=(taint,))
    follower = node.follower(section, api)
    await follower.look()
    assert api.node["metadata"]["labels"]["gpu.count"] == "1"
    assert api.node["metadata"]["labels"]["accelerator"] == "nvidia-h100"
    assert api.taints() == ["other", "nvidia.com/gpu"]
    node.store.set_devices("nvidia", [])
    await follower.look()
    assert api.node["metadata"]["labels"] == {}
    assert api.taints() == ["other"]


async def test_a_label_that_somebody_else_has_set_stays_and_is_told(
    node: Node, api: ApiStub
) -> None:
    api.node["metadata"]["labels"] = {"gpu.count": "many"}
    section = LabelsSection(apply="api", common_labels=True)
    with structlog.testing.capture_logs() as logs:
        await node.follower(section, api).look()
    assert api.node["metadata"]["labels"]["gpu.count"] == "many"
    assert [(one["event"], one["label"]) for one in logs] == [("label_refused", "gpu.count")]


async def test_an_api_server_that_refuses_is_asked_again_later(node: Node, api: ApiStub) -> None:
    api.failures = [409]
    follower = node.follower(LabelsSection(apply="api"), api)
    await follower.look()
    asked = len(api.requests)
    await follower.look()
    assert len(api.requests) == asked
    node.now += 61
    await follower.look()
    assert "deviceplugin/gpu.count" in api.node["metadata"]["labels"]


def config(**section: Any) -> Config:
    sections = MappingProxyType({"labels": LabelsSection(**section)})
    return Config(node_name="node-1", sections=sections)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110  # a file and a server tell nobody
            await asyncio.sleep(0.01)


async def test_a_reload_moves_the_labels_from_the_file_to_the_node_and_off(
    node: Node, api: ApiStub, tmp_path: Path
) -> None:
    part = LabelsPart(config(), node.sources, lambda: api.access)
    part.look_s = 0.01
    task = asyncio.ensure_future(part.tasks()["labels"]())
    await part.use(config(apply="file", directory=str(tmp_path)))
    await until((tmp_path / "deviceplugin").exists)
    await part.use(config(apply="api"))
    await until(lambda: bool(api.node["metadata"].get("labels")))
    assert not (tmp_path / "deviceplugin").exists()
    await part.use(config())
    await until(lambda: not api.node["metadata"]["labels"])
    task.cancel()


async def test_what_documents_ask_is_answered_in_the_file_until_they_ask_no_more(
    node: Node, tmp_path: Path
) -> None:
    node.store.set_devices("nvidia", [gpu(0, resource=ResourceName("nvidia.com/gpu"))])
    asked = Workloads(training=Workload(gpu_memory="32GiB"))
    labels = LabelsSection(apply="file", directory=str(tmp_path))
    before = Config(node_name="n", sections=MappingProxyType({"labels": labels}))
    after = Config(node_name="n", sections=MappingProxyType({"labels": labels, "workloads": asked}))
    part = LabelsPart(before, node.sources)
    part.look_s = 0.01
    task = asyncio.ensure_future(part.tasks()["labels"]())
    file = tmp_path / "deviceplugin"
    mine = "deviceplugin/workload.training=true"
    try:
        await until(lambda: file.exists() and mine not in lines(tmp_path))
        await part.use(after)
        await until(lambda: mine in lines(tmp_path))
        await part.use(before)
        await until(lambda: file.exists() and mine not in lines(tmp_path))
    finally:
        task.cancel()
        await asyncio.wait([task])
