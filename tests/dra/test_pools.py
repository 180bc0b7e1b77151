"""Which slices are written, against the API server's stub: as few as can be, never in a loop."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from deviceplugin.dra.gates import Cluster
from deviceplugin.dra.pools import Owner, writes_of
from deviceplugin.dra.publisher import Publisher
from deviceplugin.dra.slices import Offered, Pool, SlicePlan, plan_slices
from deviceplugin.kubernetes.api import ApiError
from deviceplugin.testing.apiserver import ApiServer
from tests.dra.simulated import until
from tests.dra.test_slices import fault, gpu, offered

DRIVER = "gpu.nvidia.com"
Make = Callable[[], list[Offered]]


class Node:
    """A publisher of whatever `offered` is."""

    def __init__(self, count: int = 2, minor: int = 36) -> None:
        self.api = ApiServer(minor=minor)
        self.offered = list(offered([gpu(n) for n in range(count)]))
        self.publisher = Publisher(DRIVER, "node-1", self.plan, self.api)

    def plan(self, minor: int, lacking: frozenset[str] = frozenset()) -> SlicePlan:
        cluster = Cluster(minor=minor, lacking=lacking)
        return plan_slices(Pool(driver=DRIVER, node="node-1", cluster=cluster), self.offered)

    def write(self, *lacking: str) -> list[str]:
        """The writes of one plan, by their methods."""
        before = len(self.api.writes())
        self.publisher.write(self.plan(self.api.minor, frozenset(lacking)))
        return [one.split()[0] for one in self.api.writes()[before:]]

    @property
    def generations(self) -> set[int]:
        return {one["spec"]["pool"]["generation"] for one in self.api.slices.values()}


def test_an_unchanged_inventory_is_not_written_again() -> None:
    node = Node()
    assert node.write() == ["POST"]
    assert node.write() == []
    (only,) = node.api.slices.values()
    (owner,) = only["metadata"]["ownerReferences"]
    assert owner == {
        "apiVersion": "v1",
        "kind": "Node",
        "name": "node-1",
        "uid": "uid-of-node-1",
        "controller": True,
    }


def test_a_fault_and_its_end_are_one_update_each_of_the_same_generation() -> None:
    node = Node(130)
    node.write()
    assert len(node.api.devices) == 130
    well = node.offered[0]
    node.offered[0] = next(iter(offered([gpu(0)], faults=(fault(),))))
    assert node.write() == ["PUT"]
    assert [one["key"] for one in node.api.devices["gpu-0"]["taints"]] == [f"{DRIVER}/79"]
    assert node.write() == []
    node.offered[0] = well
    assert node.write() == ["PUT"]
    assert "taints" not in node.api.devices["gpu-0"]
    assert node.generations == {1}


def test_a_taint_that_stays_keeps_its_time() -> None:
    node = Node()
    node.offered = [
        *offered([gpu(0)], faults=(fault(),)),
        *offered([gpu(1)]),
    ]
    node.write()
    node.offered[1] = next(iter(offered([gpu(1)], faults=(fault(),))))
    node.write()
    put = node.api.devices["gpu-0"]["taints"]
    assert put[0]["timeAdded"] == "2026-01-01T00:00:00Z"


def test_more_slices_than_before_are_a_new_generation_of_all() -> None:
    node = Node(64)
    node.write()
    node.offered = list(offered([gpu(n) for n in range(65)]))
    assert sorted(node.write()) == ["POST", "PUT"]
    assert node.generations == {2}
    assert len(node.api.devices) == 65
    node.offered = node.offered[:3]
    assert node.write() == ["DELETE", "PUT"]
    assert len(node.api.devices) == 3
    assert node.write() == []


def test_a_field_that_the_server_drops_is_told_once_and_planned_without_from_then_on() -> None:
    node = Node()
    node.api.gates.remove("DRADeviceTaints")
    node.offered = [*offered([gpu(0)], faults=(fault(),)), *offered([gpu(1)])]
    with capture_logs() as logs:
        assert node.write() == ["POST"]
        assert node.write() == []
        assert node.write("DRADeviceTaints") == ["PUT"]
        assert node.write("DRADeviceTaints") == []
    told = [one["reason"] for one in logs if one["event"] == "dra_field_dropped"]
    assert told == ["taints: the cluster needs DRADeviceTaints for it"]
    assert list(node.api.devices) == ["gpu-1"]


async def test_without_the_gate_of_taints_a_faulty_device_is_left_out_and_that_is_all() -> None:
    node = Node()
    node.api.gates.clear()
    node.offered = [*offered([gpu(0)], faults=(fault(),)), *offered([gpu(1)])]
    task = asyncio.create_task(node.publisher.run())
    try:
        await until(lambda: not node.publisher.problem)
        written = len(node.api.writes())
        for _ in range(3):
            looks = len(node.api.requests)
            node.publisher.wake()
            await until(lambda: len(node.api.requests) > looks + 2)  # noqa: B023  # at once
    finally:
        task.cancel()
    assert list(node.api.devices) == ["gpu-1"]
    assert len(node.api.writes()) == written


def test_what_somebody_changed_meanwhile_is_a_conflict_and_then_put_right() -> None:
    node = Node()
    node.write()
    (only,) = node.api.slices.values()
    only["spec"]["devices"] = []
    plan, real = node.plan(36), node.api.request

    def late(method: str, path: str, body: Any = None, kind: str = "") -> Any:
        if method == "PUT":
            only["metadata"]["resourceVersion"] = "later"
        return real(method, path, body, kind)

    node.api.request = late  # type: ignore[method-assign]  # the server, a moment later
    with pytest.raises(ApiError):
        node.publisher.write(plan)
    node.api.request = real  # type: ignore[method-assign]
    assert node.write() == ["PUT"]
    assert len(node.api.devices) == 2


def test_slices_with_names_of_others_are_deleted_and_twins_too() -> None:
    node = Node()
    node.write()
    ((name, own),) = node.api.slices.items()
    for other in ("zz-odd", f"{name}x"):
        node.api.slices[other] = {**own, "metadata": {**own["metadata"], "name": other}}
    assert sorted(node.write()) == ["DELETE", "DELETE"]
    assert list(node.api.slices) == [name]


def test_nothing_stored_and_nothing_planned_changes_nothing_but_the_empty_slice() -> None:
    writes = writes_of((), plan_slices(_POOL, ()).specs, _O, {})
    assert writes.count == len(writes.create) == 1


_O = Owner("n", "u")
_POOL = Pool(driver="d", node="n", cluster=Cluster(minor=36))


async def test_slices_that_a_kubelet_has_wiped_are_published_again_when_it_registers_us() -> None:
    node = Node()
    task = asyncio.create_task(node.publisher.run())
    try:
        for _ in range(3):
            await until(lambda: len(node.api.devices) == 2)
            node.api.wipe()
            node.publisher.registered()
    finally:
        task.cancel()


async def test_an_api_server_that_is_away_is_tried_again_and_the_problem_says_so() -> None:
    node = Node()
    node.api.failures = [0, 503]
    task = asyncio.create_task(node.publisher.run())
    try:
        await until(lambda: "not published: " in node.publisher.problem)
        await until(lambda: not node.publisher.problem)
    finally:
        task.cancel()
    assert len(node.api.devices) == 2
