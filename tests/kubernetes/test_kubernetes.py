"""What Kubernetes is shown of a node's devices, against a small API server over HTTPS."""

import asyncio
from collections.abc import Callable, Iterator
from types import MappingProxyType

import pytest
import structlog
from msgspec.structs import replace

from deviceplugin.config.config import Config
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.kubernetes import story
from deviceplugin.kubernetes.api import Api, ApiError, in_cluster
from deviceplugin.kubernetes.section import KubernetesSection
from deviceplugin.kubernetes.service import Follower, KubernetesPart
from deviceplugin.kubernetes.story import Held
from deviceplugin.kubernetes.writer import BURST, Bucket, Writer
from deviceplugin.model import Device, DeviceID, Fault, FaultClass, ResourceName
from tests.kubernetes.stub import ApiStub, api_stub

WAIT_S = 60.0
GPU = Device(id=DeviceID("GPU-1"), vendor="nvidia", pci_address="0000:1f:00.0")
OTHER = Device(id=DeviceID("GPU-2"), vendor="nvidia", pci_address="0000:2f:00.0")
PART = Device(id=DeviceID("MIG-1"), vendor="nvidia", parent=GPU.id)
LOST = Fault(
    device=GPU.id,
    source="nvidia.nvml",
    code="gpu_lost",
    reason="GPU is lost",
    kind=FaultClass.REBOOT,
    action="reboot the node",
)
TRAIN: Held = (("ml", "train", "main"), ResourceName("nvidia.com/mig-1g.5gb"), PART.id)
MESSAGE = "GPU-1 (0000:1f:00.0): GPU is lost (nvidia.nvml/gpu_lost); do: reboot the node"


@pytest.fixture
def api() -> Iterator[ApiStub]:
    with api_stub() as stub:
        yield stub


@pytest.fixture
def store() -> InventoryStore:
    store = InventoryStore(lambda: 1000.0)
    store.set_devices("nvidia", [GPU, OTHER, PART])
    return store


class Cluster:
    """A follower of one store, asked for one round after the other."""

    def __init__(self, api: ApiStub, store: InventoryStore, held: tuple[Held, ...] = ()) -> None:
        self.store, self.held = store, held
        self.listed = {TRAIN[1]}
        self.follower = Follower(Writer(Api(api.access), "node-1", (0.0, 0.0)), lambda: 1000.0)

    async def round(self, **section: object) -> None:
        inventory = self.store.current
        settings = KubernetesSection(**section)  # type: ignore[arg-type]  # of the section
        await self.follower.write(
            settings, inventory, story.causes(inventory, self.held, self.listed)
        )


async def test_a_fault_is_an_event_on_the_node_and_on_the_pod_that_holds_it(
    api: ApiStub, store: InventoryStore
) -> None:
    api.pods["ml/train"] = "uid-7"
    cluster = Cluster(api, store, (TRAIN,))
    store.set_faults("nvidia:driver", [LOST])
    await cluster.round(events=True)
    by_kind = {event["involvedObject"]["kind"]: event for event in api.events.values()}
    assert {event["message"] for event in by_kind.values()} == {MESSAGE}
    assert by_kind["Node"]["involvedObject"]["uid"] == "node-1"
    assert by_kind["Node"]["metadata"]["namespace"] == "default"
    assert by_kind["Pod"]["involvedObject"]["uid"] == "uid-7"
    assert by_kind["Pod"]["metadata"]["namespace"] == "ml"
    assert {event["type"] for event in by_kind.values()} == {"Warning"}
    await cluster.round(events=True)
    assert len(api.events) == 2
    store.set_faults("nvidia:driver", [])
    await cluster.round(events=True)
    assert [e["reason"] for e in api.events.values() if e["type"] == "Normal"] == ["DeviceHealthy"]


async def test_the_same_event_again_is_counted(api: ApiStub, store: InventoryStore) -> None:
    store.set_faults("nvidia:driver", [LOST])
    for _ in range(3):
        await Cluster(api, store).round(events=True)
    (event,) = api.events.values()
    assert event["count"] == 3


async def test_a_pod_that_has_ended_gets_no_event(api: ApiStub, store: InventoryStore) -> None:
    store.set_faults("nvidia:driver", [LOST])
    await Cluster(api, store, (TRAIN,)).round(events=True)
    assert [e["involvedObject"]["kind"] for e in api.events.values()] == ["Node"]


async def test_a_device_that_is_gone_and_held_is_an_event(
    api: ApiStub, store: InventoryStore
) -> None:
    api.pods["ml/train"] = "uid-7"
    store.set_devices("nvidia", [OTHER])
    await Cluster(api, store, (TRAIN,)).round(events=True)
    assert {e["involvedObject"]["kind"] for e in api.events.values()} == {"Node", "Pod"}
    assert all("it is not on the node any more" in e["message"] for e in api.events.values())


async def test_what_was_not_looked_for_yet_is_not_gone(api: ApiStub, store: InventoryStore) -> None:
    api.pods["ml/train"] = "uid-7"
    store.set_devices("nvidia", [])
    cluster = Cluster(api, store, (TRAIN,))
    cluster.listed = set()
    await cluster.round(events=True)
    assert api.events == {}


async def test_nothing_is_asked_for_and_nothing_is_written(
    api: ApiStub, store: InventoryStore
) -> None:
    store.set_faults("nvidia:driver", [LOST])
    await Cluster(api, store).round()
    assert api.requests == []


async def test_a_driver_that_is_gone_is_one_event(api: ApiStub, store: InventoryStore) -> None:
    gone = [replace(LOST, device=device.id) for device in (GPU, OTHER, PART)]
    store.set_faults("nvidia:driver", gone)
    await Cluster(api, store).round(events=True)
    (event,) = api.events.values()
    assert event["message"].startswith("GPU-1 (0000:1f:00.0), GPU-2 (0000:2f:00.0): GPU is lost")


async def test_the_condition_follows_and_goes_when_it_is_turned_off(
    api: ApiStub, store: InventoryStore
) -> None:
    cluster = Cluster(api, store)
    await cluster.round(condition=True)
    assert (api.condition() or {})["status"] == "False"
    store.set_faults("nvidia:driver", [LOST])
    await cluster.round(condition=True)
    condition = api.condition() or {}
    assert (condition["status"], condition["message"]) == ("True", MESSAGE)
    assert condition["lastTransitionTime"] == "1970-01-01T00:16:40Z"
    written = len(api.requests)
    await cluster.round(condition=True)
    assert len(api.requests) == written
    await cluster.round()
    assert api.condition() is None
    assert {c["type"] for c in api.node["status"]["conditions"]} == {"Ready"}


async def test_the_taint_leaves_others_alone(api: ApiStub, store: InventoryStore) -> None:
    cluster = Cluster(api, store)
    store.set_faults("nvidia:driver", [LOST])
    await cluster.round(taint="all")
    assert api.taints() == ["other"]
    await cluster.round(taint="any")
    assert api.taints() == ["other", story.TAINT]
    store.set_faults("nvidia:driver", [])
    await cluster.round(taint="any")
    assert api.taints() == ["other"]


async def test_all_means_all_that_can_be_held(api: ApiStub, store: InventoryStore) -> None:
    store.set_faults("nvidia:driver", [LOST, replace(LOST, device=OTHER.id)])
    await Cluster(api, store).round(taint="all")
    assert api.taints() == ["other", story.TAINT]


async def test_a_device_that_is_gone_and_held_taints_as_one_that_is_unhealthy(
    api: ApiStub, store: InventoryStore
) -> None:
    cluster = Cluster(api, store, (TRAIN,))
    store.set_devices("nvidia", [OTHER])
    await cluster.round(taint="all")
    assert api.taints() == ["other"]
    await cluster.round(taint="any")
    assert api.taints() == ["other", story.TAINT]
    cluster.held = ()
    await cluster.round(taint="any")
    assert api.taints() == ["other"]


async def test_an_address_that_is_the_id_is_told_once(api: ApiStub, store: InventoryStore) -> None:
    device = Device(id=DeviceID("0000:b4:00.0"), vendor="intel", pci_address="0000:b4:00.0")
    store.set_devices("intel", [device])
    store.set_faults("intel:driver", [replace(LOST, device=device.id)])
    await Cluster(api, store).round(condition=True)
    assert (api.condition() or {})["message"].startswith("0000:b4:00.0: GPU is lost")


async def test_a_write_that_fails_for_now_is_tried_again(
    api: ApiStub, store: InventoryStore
) -> None:
    api.failures = [503, 429]
    store.set_faults("nvidia:driver", [LOST])
    await Cluster(api, store).round(events=True)
    assert len(api.events) == 1


async def test_what_stays_unwritten_is_written_in_a_later_round(
    api: ApiStub, store: InventoryStore
) -> None:
    api.failures = [503] * 3
    cluster = Cluster(api, store)
    store.set_faults("nvidia:driver", [LOST])
    await cluster.round(events=True)
    assert api.events == {}
    await cluster.round(events=True)
    assert len(api.events) == 1


async def test_a_refusal_is_logged_once_and_not_repeated(
    api: ApiStub, store: InventoryStore
) -> None:
    api.refused = {"POST": 403}
    cluster = Cluster(api, store)
    store.set_faults("nvidia:driver", [LOST])
    with structlog.testing.capture_logs() as logs:
        await cluster.round(events=True)
        await cluster.round(events=True)
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("kubernetes_not_written", "warning")
    assert "403: events is forbidden" in line["reason"]
    assert [request.split()[0] for request in api.requests] == ["POST"]


async def test_events_are_limited_in_number() -> None:
    at = [0.0]
    bucket = Bucket(lambda: at[0])
    assert sum(bucket.take() for _ in range(3 * BURST)) == BURST
    at[0] = 12.0
    assert sum(bucket.take() for _ in range(BURST)) == 2


async def test_a_server_that_is_not_there_is_one_line(store: InventoryStore) -> None:
    with api_stub() as api:
        access = api.access
    with pytest.raises(ApiError, match=r"GET https://127.0.0.1:\d+/x: ") as caught:
        Api(access).request("GET", "/x")
    assert caught.value.may_pass


def test_outside_a_pod_no_server_is_known() -> None:
    with pytest.raises(ApiError, match="KUBERNETES_SERVICE_HOST"):
        in_cluster({})
    there = in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"})
    assert (there.host, there.port) == ("10.0.0.1", 443)


def test_a_message_is_never_longer_than_the_server_takes() -> None:
    cause = story.Cause(
        name="a/b", reason="ü" * 900, action="y", devices=(GPU.id,), addresses=("",)
    )
    body = story.event("node-1", None, cause, well=True, now=1.0)
    assert len(body["message"].encode()) <= 1024


def config(**section: object) -> Config:
    settings = KubernetesSection(**section)  # type: ignore[arg-type]  # of the section
    return Config(node_name="node-1", sections=MappingProxyType({"kubernetes": settings}))


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not done():  # noqa: ASYNC110  # the server's thread tells nobody
            await asyncio.sleep(0.01)


async def test_the_part_follows_the_inventory_and_its_section(
    api: ApiStub, store: InventoryStore
) -> None:
    part = KubernetesPart(config(), store, lambda: ((TRAIN,), {TRAIN[1]}), lambda: api.access)
    part.settle_s, part.look_s = 0.0, 0.05
    running = asyncio.ensure_future(part.tasks()["kubernetes"]())
    store.set_faults("nvidia:driver", [LOST])
    await part.use(config(condition=True))
    await until(lambda: (api.condition() or {}).get("status") == "True")
    store.set_faults("nvidia:driver", [])
    await until(lambda: (api.condition() or {}).get("status") == "False")
    await part.use(config())
    await until(lambda: api.condition() is None)
    running.cancel()
    await asyncio.wait([running])
