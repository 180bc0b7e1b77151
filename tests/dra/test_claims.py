"""Claims over the kubelet's real sockets: prepared, given back, never given twice, and what is left
of them when the daemon is killed."""

import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from deviceplugin.dra.section import DraSection
from deviceplugin.dra.tombstones import KEPT_S
from deviceplugin.model import AdvertisedID, ContainerEdits, DeviceID, Fault, Mount
from deviceplugin.resources.entries import ClaimMemory
from deviceplugin.resources.section import MemorySlices, Offer
from deviceplugin.testing.apiserver import SLICES, ApiServer
from deviceplugin.testing.dra import ClaimName, DraKubelet, RefusedError
from tests.dra.simulated import DRIVER, GPU, Simulated, gpus, journal_files, simulated, until

SHARED = (Offer(memory=MemorySlices(unit="1GiB")),)
ONE, TWO = ClaimName(uid="u-1", name="one"), ClaimName(uid="u-2", name="two")


async def test_a_claim_gets_its_devices_with_cdi_names_of_its_own(short_dir: Path) -> None:
    async with simulated(short_dir) as node, node.registered() as driver:
        node.api.allocate("one", "u-1", ["gpu-0", "gpu-2"])
        devices = (await driver.prepare(ONE))["u-1"]
        told = [(d.pool_name, d.device_name, list(d.request_names)) for d in devices]
        assert told == [("node-1", "gpu-0", ["gpu"]), ("node-1", "gpu-2", ["gpu"])]
        assert [list(d.cdi_device_ids) for d in devices] == [
            ["k8s.gpu.nvidia.com/claim=u-1-gpu-0"],
            ["k8s.gpu.nvidia.com/claim=u-1-gpu-2"],
        ]
        (file,) = node.places.cdi_dir.glob("*.json")
        content = json.loads(file.read_text())
        assert content["kind"] == "k8s.gpu.nvidia.com/claim"
        paths = {
            device["name"]: [one["path"] for one in device["containerEdits"]["deviceNodes"]]
            for device in content["devices"]
        }
        assert paths == {"u-1-gpu-0": ["/dev/nvidia0"], "u-1-gpu-2": ["/dev/nvidia2"]}
        assert content["containerEdits"]["env"] == ["NVIDIA_VISIBLE_DEVICES=void"]
        assert node.holders() == {"GPU-0": ["claim default/one"], "GPU-2": ["claim default/one"]}


async def test_prepare_and_unprepare_can_be_repeated(short_dir: Path) -> None:
    async with simulated(short_dir) as node, node.registered() as driver:
        node.api.allocate("one", "u-1", ["gpu-0"])
        first, again = await driver.prepare(ONE), await driver.prepare(ONE)
        assert first == again
        for _ in range(2):
            await driver.unprepare(ONE)
            assert node.holders() == {}
            assert node.cdi_files() == []
            assert list(journal_files(short_dir)) == []
        await driver.unprepare(ClaimName(uid="never", name="seen"))
        node.now_s += KEPT_S
        await driver.prepare(ONE)  # it was allocated again


async def test_a_device_of_another_claim_is_refused_with_its_name(short_dir: Path) -> None:
    async with simulated(short_dir) as node, node.registered() as driver:
        node.api.allocate("one", "u-1", ["gpu-0"])
        node.api.allocate("two", "u-2", ["gpu-1", "gpu-0"])
        await driver.prepare(ONE)
        with pytest.raises(RefusedError, match=r"gpu-0 .* in use as claim default/one"):
            await driver.prepare(TWO)
        assert node.holders() == {"GPU-0": ["claim default/one"]}
        await driver.unprepare(ONE)
        await driver.prepare(TWO)


async def test_a_device_that_a_pod_has_by_the_device_plugin_is_refused(short_dir: Path) -> None:
    async with simulated(short_dir) as node, node.registered() as driver:
        node.api.allocate("one", "u-1", ["gpu-0"])
        with node.ledger.reserving(GPU, [AdvertisedID("GPU-0")]):
            pass
        with pytest.raises(RefusedError, match=r"in use as nvidia\.com/gpu"):
            await driver.prepare(ONE)
        await until(lambda: "taints" in node.api.devices["gpu-0"])


async def test_nothing_is_prepared_while_nobody_says_what_pods_hold(short_dir: Path) -> None:
    async with simulated(short_dir) as node, node.registered() as driver:
        node.pods.silent = True
        node.api.allocate("one", "u-1", ["gpu-0"])
        with pytest.raises(RefusedError, match="PodResources API does not tell"):
            await driver.prepare(ONE)


async def test_a_holder_that_was_deleted_while_nobody_told_us_is_undone_first(
    short_dir: Path,
) -> None:
    async with simulated(short_dir) as node, node.registered() as driver:
        node.api.allocate("one", "u-1", ["gpu-0"])
        await driver.prepare(ONE)
        node.api.allocate("one", "u-9", ["gpu-0"])  # made again with the same name
        again = ClaimName(uid="u-9", name="one")
        await driver.prepare(again)
        assert node.cdi_files() == [f"deviceplugin-dra_{DRIVER}_u-9.json"]


async def test_admin_access_takes_nothing_from_anybody(short_dir: Path) -> None:
    async with simulated(short_dir) as node, node.registered() as driver:
        node.api.allocate("one", "u-1", ["gpu-0"])
        node.api.allocate("two", "u-2", ["gpu-0"], adminAccess=True)
        await driver.prepare(ONE)
        await driver.prepare(TWO)
        assert node.holders() == {"GPU-0": ["claim default/one"]}
        await driver.unprepare(TWO)
        assert node.holders() == {"GPU-0": ["claim default/one"]}


def of_gpu_0(device: dict[str, Any]) -> bool:
    return bool(device["attributes"]["uuid"]["string"] == "GPU-0")


async def test_claims_share_a_gpu_up_to_what_it_has(short_dir: Path) -> None:
    async with simulated(short_dir, offers=SHARED) as node, node.registered() as driver:
        for number, memory in ((1, "32Gi"), (2, "32Gi"), (3, "16Gi")):
            node.api.schedule(f"c{number}", f"u-{number}", of_gpu_0, {"memory": memory})
        names = [ClaimName(uid=f"u-{number}", name=f"c{number}") for number in (1, 2, 3)]
        answers = await driver.prepare(*names)
        ids = {one.cdi_device_ids[0] for devices in answers.values() for one in devices}
        assert len(ids) == 3
        assert all(one.share_id for devices in answers.values() for one in devices)
        env = node.cdi_document("u-1")["containerEdits"]["env"]
        assert f"GPU_SHARE_MEMORY_BYTES=GPU-0={32 << 30}" in env
        node.api.allocate("x", "u-x", ["gpu-0"], shareID="a", consumedCapacity={"memory": "1Gi"})
        with pytest.raises(RefusedError, match="has 0 of 85899345920 memory left, 1073741824 are"):
            await driver.prepare(ClaimName(uid="u-x", name="x"))
        await driver.unprepare(names[2])
        await driver.prepare(ClaimName(uid="u-x", name="x"))
        assert len(node.holders()["GPU-0"]) == 3


async def test_what_holds_a_claim_to_its_memory_is_in_its_file_before_anybody_has_it(
    short_dir: Path,
) -> None:
    seen: list[ClaimMemory] = []

    async def limited(driver: str, uid: str, edits: ContainerEdits) -> ContainerEdits:
        seen.extend(one for ones in node.ledger.claim_memory.values() for one in ones)
        return replace(edits, mounts=(Mount(path="/limit", host_path=f"/{driver}/{uid}"),))

    async with simulated(short_dir, offers=SHARED) as node, node.registered() as driver:
        node.limited = limited
        node.api.schedule("one", "u-1", of_gpu_0, {"memory": "32Gi"})
        await driver.prepare(ONE)
        (claim,) = seen
        assert (claim.uid, claim.name) == ("u-1", "claim default/one")
        assert dict(claim.memory) == {"GPU-0": 32 << 30}
        (mount,) = node.cdi_document("u-1")["containerEdits"]["mounts"]
        assert mount["hostPath"] == f"/{DRIVER}/u-1"
        await driver.unprepare(ONE)
        assert not any(node.ledger.claim_memory.values())


async def test_a_gpu_is_shared_or_whole_and_shares_outlive_the_daemon(short_dir: Path) -> None:
    api = ApiServer()
    part = {"shareID": "a", "consumedCapacity": {"gpu.nvidia.com/memory": "79Gi"}}
    async with simulated(short_dir, api, offers=SHARED) as node, node.registered() as driver:
        api.allocate("one", "u-1", ["gpu-0"], **part)
        await driver.prepare(ONE)
    async with simulated(short_dir, api, offers=SHARED) as node, node.registered() as driver:
        api.allocate("two", "u-2", ["gpu-0"])
        with pytest.raises(RefusedError, match="in use as claim default/one"):
            await driver.prepare(TWO)
        api.allocate("two", "u-2", ["gpu-0"], **part)
        with pytest.raises(RefusedError, match="in use as claim default/one"):
            await driver.prepare(TWO)  # the very share that the other has
        api.allocate("two", "u-2", ["gpu-0"], **{**part, "shareID": "b"})
        with pytest.raises(RefusedError, match="memory left"):
            await driver.prepare(TWO)


async def test_a_share_of_a_gpu_that_is_not_shared_is_refused(short_dir: Path) -> None:
    async with simulated(short_dir) as node, node.registered() as driver:
        node.api.allocate("one", "u-1", ["gpu-0"], shareID="a")
        with pytest.raises(RefusedError, match="is not shared on this node: give it a rule"):
            await driver.prepare(ONE)
        node.api.allocate("one", "u-1", ["gpu-0"], shareID="a", consumedCapacity={"m": "much"})
        with pytest.raises(RefusedError, match="'much' of m is no quantity"):
            await driver.prepare(ONE)


async def test_a_prepare_that_comes_after_its_unprepare_is_refused_for_a_while(
    short_dir: Path,
) -> None:
    async with simulated(short_dir) as node, node.registered() as driver:
        claim = node.api.allocate("one", "u-1", ["gpu-0"])
        await driver.prepare(ONE)
        await driver.unprepare(ONE)
        with pytest.raises(RefusedError, match="given back just now"):
            await driver.prepare(ONE)
        claim["status"]["reservedFor"].append({"uid": "another pod"})
        await driver.prepare(ONE)
        await driver.unprepare(ONE)
        node.now_s += KEPT_S
        await driver.prepare(ONE)


async def test_a_device_that_vanishes_stays_tainted_until_its_claim_gives_it_back(
    short_dir: Path,
) -> None:
    api = ApiServer()
    async with simulated(short_dir, api) as node, node.registered() as driver:
        api.allocate("one", "u-1", ["gpu-3"])
        await driver.prepare(ONE)
        node.store.set_devices("nvidia", gpus(3))
        await until(lambda: "taints" in api.devices["gpu-3"])
    life = Simulated(short_dir, api, DraSection(enabled=True), count=3)
    life.node.load()
    life.node.start()
    try:
        async with life.registered() as driver:
            await until(lambda: not life.node.problems())
            assert api.devices["gpu-3"]["taints"][0]["key"] == f"{DRIVER}/gone"
            await driver.unprepare(ONE)
            await until(lambda: sorted(api.devices) == ["gpu-0", "gpu-1", "gpu-2"])
    finally:
        await life.node.end()


async def test_slices_that_somebody_deletes_are_back_at_once_and_after_a_410_too(
    short_dir: Path,
) -> None:
    async with simulated(short_dir) as node:
        for _ in range(2):
            await until(lambda: node.api.watches)
            node.api.wipe()
            await until(lambda: len(node.api.devices) == 4)
            node.api.compact()
            looks = node.api.requests.count(f"GET {SLICES}")
            await until(lambda: node.api.requests.count(f"GET {SLICES}") > looks)  # noqa: B023


def _unreserved(claim: dict[str, Any]) -> None:
    claim["status"]["reservedFor"] = []


def _other_uid(claim: dict[str, Any]) -> None:
    claim["metadata"]["uid"] = "u-else"


def _foreign(claim: dict[str, Any]) -> None:
    claim["status"]["allocation"]["devices"]["results"][0]["driver"] = "gpu.example.com"


def _elsewhere(claim: dict[str, Any]) -> None:
    claim["status"]["allocation"]["devices"]["results"][0]["pool"] = "node-2"


def _parameters(claim: dict[str, Any]) -> None:
    parameters = {"apiVersion": "resource.nvidia.com/v1beta1", "kind": "GpuConfig", "sharing": {}}
    opaque = {"driver": DRIVER, "parameters": parameters}
    claim["status"]["allocation"]["devices"]["config"] = [{"source": "FromClaim", "opaque": opaque}]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_unreserved, "reserved for no pod"),
        (_other_uid, "another object now"),
        (_foreign, "no device of driver gpu.nvidia.com"),
        (_elsewhere, "nothing at pool node-2, device gpu-0"),
        (_parameters, r"parameters\.sharing: object missing required field `strategy`"),
    ],
)
async def test_a_claim_that_cannot_be_kept_is_refused_in_one_line(
    change: Any, text: str, short_dir: Path
) -> None:
    async with simulated(short_dir) as node, node.registered() as driver:
        change(node.api.allocate("one", "u-1", ["gpu-0"]))
        with pytest.raises(RefusedError, match=text) as refused:
            await driver.prepare(ONE)
        assert "\n" not in str(refused.value)
        assert node.holders() == {}
        assert node.cdi_files() == []


async def test_a_uid_that_is_a_path_is_refused(short_dir: Path) -> None:
    async with simulated(short_dir) as node, node.registered() as driver:
        with pytest.raises(RefusedError, match="its uid is not"):
            await driver.prepare(ClaimName(uid="../../x", name="one"))
        await driver.unprepare(ClaimName(uid="../../x", name="one"))
        assert node.cdi_files() == []


async def test_a_vendor_that_fails_costs_one_claim_and_leaves_nothing(short_dir: Path) -> None:
    async with simulated(short_dir) as node, node.registered() as driver:
        node.api.allocate("one", "u-1", ["gpu-0"])
        node.broken = "the driver is gone"
        with pytest.raises(RefusedError, match="the driver is gone"):
            await driver.prepare(ONE)
        assert node.holders() == {}
        assert list(journal_files(short_dir)) == []


async def test_prepared_claims_outlive_the_daemon_and_need_no_api_server(short_dir: Path) -> None:
    api = ApiServer()
    async with simulated(short_dir, api) as node, node.registered() as driver:
        api.allocate("one", "u-1", ["gpu-0"])
        before = await driver.prepare(ONE)
    async with simulated(short_dir, api) as node, node.registered() as driver:
        assert node.holders() == {"GPU-0": ["claim default/one"]}
        api.failures = [503] * 100
        assert await driver.prepare(ONE) == before
        await driver.unprepare(ONE)
        assert node.holders() == {}


async def test_slices_stay_until_the_first_discovery_after_a_start(short_dir: Path) -> None:
    api = ApiServer()
    async with simulated(short_dir, api) as node, node.registered() as driver:
        api.allocate("one", "u-1", ["gpu-0"])
        await driver.prepare(ONE)
    again = Simulated(short_dir, api, DraSection(enabled=True), count=0)
    again.node.load()
    again.node.start()
    async with again.registered():
        assert len(api.devices) == 4
        again.store.set_devices("nvidia", gpus(3))
        await until(lambda: len(api.devices) == 3)
    await again.node.end()


async def test_claims_of_an_earlier_boot_hold_nothing(short_dir: Path) -> None:
    boot = short_dir / "proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    boot.write_text("first\n")
    api = ApiServer()
    async with simulated(short_dir, api) as node, node.registered() as driver:
        api.allocate("one", "u-1", ["gpu-0"])
        await driver.prepare(ONE)
    boot.write_text("second\n")
    async with simulated(short_dir, api) as node, node.registered() as driver:
        assert node.holders() == {}
        assert node.cdi_files() == []
        await driver.prepare(ONE)


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"ref": 7}', b"\xff" * 100])
async def test_a_damaged_entry_is_told_and_its_devices_stay_held(
    damage: bytes, short_dir: Path
) -> None:
    api = ApiServer()
    async with simulated(short_dir, api) as node, node.registered() as driver:
        api.allocate("one", "u-1", ["gpu-0"])
        api.allocate("two", "u-2", ["gpu-0"])
        before = await driver.prepare(ONE)
    (entry,) = journal_files(short_dir)
    entry.write_bytes(damage)
    with capture_logs() as logs:
        async with simulated(short_dir, api) as node, node.registered() as driver:
            assert node.holders() == {"GPU-0": ["an unknown claim"]}
            with pytest.raises(RefusedError, match="in use as an unknown claim"):
                await driver.prepare(TWO)
            assert await driver.prepare(ONE) == before
            assert node.holders() == {"GPU-0": ["claim default/one"]}
    assert [one["log_level"] for one in logs if one["event"] == "dra_journal_damaged"] == ["error"]


async def test_fields_that_a_later_version_adds_are_passed_over(short_dir: Path) -> None:
    api = ApiServer()
    async with simulated(short_dir, api) as node, node.registered() as driver:
        api.allocate("one", "u-1", ["gpu-0"])
        await driver.prepare(ONE)
    (entry,) = journal_files(short_dir)
    content = json.loads(entry.read_text())
    entry.write_text(json.dumps({**content, "version": 99, "more": {}}))
    async with simulated(short_dir, api) as node:
        assert node.holders() == {"GPU-0": ["claim default/one"]}


async def test_a_claim_that_was_deleted_while_we_were_away_is_given_back(short_dir: Path) -> None:
    api = ApiServer()
    async with simulated(short_dir, api) as node, node.registered() as driver:
        api.allocate("one", "u-1", ["gpu-0"])
        await driver.prepare(ONE)
    api.claims.clear()
    async with simulated(short_dir, api) as node:
        await until(lambda: node.holders() == {})
        assert list(journal_files(short_dir)) == []


async def test_a_device_with_a_claim_stays_published_when_it_breaks(short_dir: Path) -> None:
    async with simulated(short_dir, ApiServer(minor=34)) as node, node.registered() as driver:
        node.api.allocate("one", "u-1", ["gpu-0"])
        await driver.prepare(ONE)
        faults = [
            Fault(device=device.id, source="nvidia.xid", code="79", reason="lost")
            for device in gpus(2)
        ]
        node.store.set_faults("nvidia.xid", faults)
        await until(lambda: "gpu-1" not in node.api.devices)
        assert "gpu-0" in node.api.devices


async def test_the_kubelet_is_told_the_health_of_each_device(short_dir: Path) -> None:
    lost = Fault(device=DeviceID("GPU-1"), source="nvidia.xid", code="79", reason="lost")
    async with simulated(short_dir) as node, node.registered() as driver:
        for service in ("v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth"):
            node.store.set_faults("nvidia.xid", [])
            async with aclosing(driver.health(service)) as lists:
                first = await anext(lists)
                assert [one.health for one in first.devices] == [1, 1, 1, 1]
                node.store.set_faults("nvidia.xid", [lost])
                async for told in lists:
                    if [one.health for one in told.devices] == [1, 2, 1, 1]:
                        break
            assert told.devices[1].message == "nvidia.xid/79: lost"


async def test_a_kubelet_of_1_33_is_served_and_one_that_knows_nothing_is_heard(
    short_dir: Path,
) -> None:
    async with simulated(short_dir) as node:
        old = {"v1beta1.DRAPlugin": "v1beta1.DRAPlugin"}
        kubelet = DraKubelet(node.places.kubelet_dir, old)
        await until(kubelet.sockets)
        node.api.allocate("one", "u-1", ["gpu-0"])
        async with kubelet.driver(kubelet.sockets()[0]) as driver:
            assert await driver.prepare(ONE)
        with pytest.raises(RefusedError):
            async with DraKubelet(node.places.kubelet_dir, {}).driver(kubelet.sockets()[0]):
                pass
        assert "refused driver gpu.nvidia.com" in node.node.problems()


async def test_a_driver_whose_sockets_another_process_has_is_not_taken_from_it(
    short_dir: Path,
) -> None:
    async with simulated(short_dir) as first:
        await until(DraKubelet(first.places.kubelet_dir).sockets)
        second = Simulated(short_dir, first.api, DraSection(enabled=True))
        second.node.load()
        with capture_logs() as logs:
            second.node.start()
            await until(lambda: any("another process serves" in str(e.get("error")) for e in logs))
            await second.node.end()
        async with first.registered():
            pass


async def test_with_handover_only_what_claims_hold_is_kept_from_the_device_plugin(
    short_dir: Path,
) -> None:
    for handover, held in ((False, {f"GPU-{n}" for n in range(4)}), (True, set())):
        section = DraSection(enabled=True, handover=handover)
        async with simulated(short_dir, section=section) as node:
            await until(lambda held=held, node=node: set(node.ledger.usage.value.held) == held)  # type: ignore[misc]
    assert node.ledger.usage.value.held == {}
