"""Every check passes on a right node and fails on one that is made wrong for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from deviceplugin.diagnose.judge import check_names, diagnose
from deviceplugin.diagnose.model import (
    GpuFacts,
    NodeFacts,
    PciGpu,
    RuntimeFacts,
    Snapshot,
    Verdict,
)
from deviceplugin.kubelet.podresources import PodResources
from deviceplugin.model import Device, DeviceID, Fault, FaultClass, VendorStatus
from deviceplugin.testing.kubelet import KubeletStub
from deviceplugin.testing.tree import remove
from tests.bypass.node import add_process
from tests.diagnose.node import AMD, INTEL, POD, POD_UID, THROTTLED, Node, of, wrong
from tests.fakes.nvml import RemappedRows, RowHistogram, gpu_uuid

GPU = gpu_uuid(0)
AMD_GPU, INTEL_GPU = "amd-e3aa140f9a5f9e30", INTEL[0]
OUTSIDE = "0::/system.slice/x.service\n"
INSIDE = f"0::/kubepods/pod{POD_UID}/abc\n"
Break = Callable[[Node], object]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def address(node: Node, vendor: str) -> str:
    return {"nvidia": node.nvidia[0], "amd": AMD[0], "intel": INTEL[0]}[vendor]


SUBJECTS = {"nvidia": GPU, "amd": AMD_GPU, "intel": INTEL_GPU}


def files(vendor: str, **texts: object) -> Break:
    """The vendor's first GPU has these files."""
    return lambda node: node.write(address(node, vendor), **texts)


def named(vendor: str, name: str, text: object) -> Break:
    """The same for names that are no words."""
    return lambda node: node.files(address(node, vendor), {name: text})


def of_nvml(**values: Any) -> Break:  # fields of a GPU
    return lambda node: node.of_gpu(lambda gpu: replace(gpu, **values))


def rising(how: Break) -> Break:
    """It happens between the two measurements."""

    def later(node: Node) -> None:
        node.rises = lambda: (how(node), None)[1]

    return later


def both(*breaks: Break) -> Break:
    return lambda node: [one(node) for one in breaks]


def given(**changes: object) -> Break:
    return lambda node: node.changes.update(changes)


def closed(path: str) -> Break:
    return lambda node: (node.root / path).chmod(0o600)


def gone(path: str) -> Break:
    return lambda node: remove(node.root, path)


def untold(node: Node) -> None:
    """No driver tells its persistence mode."""
    for index in range(len(node.nvidia)):
        node.double.update_gpu(index, lambda gpu: replace(gpu, persistence=None))


def specs(node: Node) -> None:
    """Without them the container runtime makes NVIDIA's nodes."""
    node.sections["nvidia"] = {"pass_device_specs": True}


def cdi(name: str, text: str) -> Break:
    return lambda node: (node.cdi / name).write_text(text)


FIELD = {3: 1, 4: 0, 5: 2, 6: 0, 38: 0, 45: 0, 52: 0, 59: 0}
EACH: list[tuple[str, str, Break, str]] = [
    case
    for vendor in SUBJECTS
    for case in (
        ("pcie_width", vendor, files(vendor, current_link_width=8), "warn"),
        ("pcie_errors", vendor, files(vendor, aer_dev_nonfatal="TOTAL_ERR_NONFATAL 2"), "warn"),
        ("pcie_errors", vendor, files(vendor, aer_dev_fatal="TOTAL_ERR_FATAL 1"), "fail"),
        ("pcie_window", vendor, files(vendor, resource="0x1000 0x1fff 0x0"), "warn"),
    )
]
SLOW = {"current_link_speed": "8.0 GT/s PCIe"}
OWN: list[tuple[str, str, Break, str]] = [
    ("device_nodes", "nvidia", closed("dev/nvidia0"), "warn"),
    ("device_nodes", "amd", closed("dev/dri/renderD128"), "warn"),
    ("device_nodes", "intel", closed("dev/dri/renderD188"), "warn"),
    ("device_nodes", "nvidia", both(gone("/dev/nvidia0"), specs), "fail"),
    ("device_nodes", "intel", gone("/dev/dri/renderD188"), "fail"),
    ("pcie_speed", "nvidia", files("nvidia", **SLOW), "warn"),
    ("pcie_speed", "amd", both(files("amd", **SLOW), files("amd", gpu_busy_percent=80)), "warn"),
    ("pcie_replays", "nvidia", rising(of_nvml(pcie_replays=90)), "warn"),
    ("pcie_replays", "amd", rising(files("amd", pcie_replay_count=99)), "warn"),
    ("fabric", "nvidia", rising(of_nvml(fields=FIELD | {52: 1})), "fail"),
    ("fabric", "amd", rising(named("amd", "ras/xgmi_wafl_err_count", "ue: 1\nce: 2")), "fail"),
    ("ecc_errors", "nvidia", of_nvml(fields=FIELD | {4: 1}), "fail"),
    ("ecc_errors", "nvidia", of_nvml(fields=FIELD | {6: 1}), "warn"),
    ("ecc_errors", "amd", named("amd", "ras/umc_err_count", "ue: 1\nce: 0"), "fail"),
    ("memory_rows", "nvidia", of_nvml(remapped=RemappedRows(failure=True)), "fail"),
    ("memory_rows", "nvidia", of_nvml(remapped=RemappedRows(pending=True)), "warn"),
    ("memory_rows", "nvidia", of_nvml(remapped=RemappedRows(uncorrected=512)), "warn"),
    ("memory_rows", "nvidia", of_nvml(histogram=RowHistogram(none=1)), "warn"),
    ("memory_rows", "amd", named("amd", "ras/gpu_vram_bad_pages", "0x1 : 0x1000 : F"), "fail"),
    ("memory_rows", "amd", named("amd", "ras/gpu_vram_bad_pages", "0x1 : 0x1000 : P"), "warn"),
    ("clocks", "nvidia", of_nvml(clocks_event_reasons=0x44), "fail"),
    ("clocks", "nvidia", of_nvml(clocks_event_reasons=0x20), "warn"),
    ("clocks", "amd", lambda node: node.throttle(AMD[0], THROTTLED), "warn"),
    ("clocks", "intel", named("intel", "tile0/gt0/freq0/throttle/reason_thermal", 1), "warn"),
    ("clocks", "intel", named("intel", "tile0/gt0/freq0/throttle/reason_prochot", 1), "fail"),
    ("temperature", "nvidia", of_nvml(temperature_c=90), "fail"),
    ("temperature", "amd", named("amd", "hwmon/hwmon3/temp2_input", 100_000), "fail"),
    ("temperature", "intel", named("intel", "hwmon/hwmon3/temp2_input", 101_000), "fail"),
    (
        "power",
        "nvidia",
        lambda node: node.double.fail("nvmlDeviceGetPowerUsage", 999, gpu=0),
        "warn",
    ),
    ("power", "intel", gone(f"/sys/bus/pci/devices/{INTEL[0]}/hwmon/hwmon3/energy1_input"), "warn"),
    ("health", "nvidia", of_nvml(remapped=RemappedRows(failure=True)), "fail"),
    ("health", "amd", named("amd", "hwmon/hwmon3/temp2_input", 106_000), "fail"),
    ("health", "intel", named("intel", "hwmon/hwmon3/temp2_input", 101_000), "warn"),
    ("partitions", "nvidia", of_nvml(mig_pending=1), "warn"),
    ("partitions", "amd", lambda node: node.divide_amd(dead=3), "warn"),
    ("iommu", "intel", lambda node: node.divide_intel(without_group=1), "fail"),
    ("answers", "nvidia", rising(lambda node: node.double.lose(0)), "fail"),
]


@pytest.mark.parametrize(
    ("check", "vendor", "broken", "verdict"),
    [*EACH, *OWN],
    ids=[
        f"{check}-{vendor}-{verdict}-{n}"
        for n, (check, vendor, _, verdict) in enumerate([*EACH, *OWN])
    ],
)
async def test_a_gpu_that_is_made_wrong_fails_its_check(
    node: Node, check: str, vendor: str, broken: Break, verdict: str
) -> None:
    broken(node)
    results = diagnose(await node.snapshot())
    found = of(results, check, SUBJECTS[vendor])
    assert found.verdict == verdict, found
    assert found.action
    others = [r for r in results if r.check == check and r.subject not in SUBJECTS.values()]
    assert {r.verdict for r in others} <= {Verdict.PASS, Verdict.SKIPPED}


def opens(node: Node) -> None:
    """A process of the pod has the first GPU open."""
    add_process(node.root, 1, "0::/init.scope", namespace=1)
    add_process(node.root, 78, INSIDE.strip(), "/dev/nvidia0")


NOT_HONOURED = RuntimeFacts(honoured=False, reason="too old", remedy="update it", needed=True)
HELD = {DeviceID(GPU): frozenset({POD})}
OF_NODE: list[tuple[str, str, Break, str]] = [
    ("gpu_count", "amd", lambda node: remove(node.root, _driver(AMD[0])), "warn"),
    ("gpu_count", "intel", lambda node: remove(node.root, _driver(INTEL[0])), "warn"),
    ("gpu_count", "nvidia", lambda node: remove(node.root, _driver(node.nvidia[0])), "warn"),
    ("gpu_count", "nvidia", lambda node: node.double.remove(0), "fail"),
    ("virtual_functions", AMD[0], files("amd", sriov_numvfs=2), "fail"),
    ("cdi_files", "a.json", cdi("a.json", "no JSON"), "fail"),
    ("cdi_files", "a.json", cdi("a.json", '{"devices": [3]}'), "fail"),
    ("cdi_files", "a.yaml", cdi("a.yaml", "containerEdits: {hooks: [{path: /no}]}"), "fail"),
    ("kubelet", "node", lambda node: node.kubelet.mkdir(), "fail"),
    ("processes", GPU, lambda node: node.process(77, OUTSIDE), "warn"),
    (
        "processes",
        GPU,
        both(lambda node: node.process(77, INSIDE), given(held={})),
        "fail",
    ),
    ("unallocated_use", "node", both(opens, given(held={})), "warn"),
    ("container_runtime", "node", given(runtime=NOT_HONOURED), "fail"),
    ("host_clock", "node", given(clock=lambda: False), "warn"),
    ("persistence", "node", of_nvml(persistence=0), "warn"),
    ("persistence", "node", both(untold, gone("/run/nvidia-persistenced/socket")), "warn"),
]


def _driver(at: str) -> str:
    return f"/sys/bus/pci/devices/{at}/driver"


@pytest.mark.parametrize(
    ("check", "subject", "broken", "verdict"),
    OF_NODE,
    ids=[f"{check}-{verdict}-{n}" for n, (check, _, _, verdict) in enumerate(OF_NODE)],
)
async def test_a_node_that_is_made_wrong_fails_its_check(
    node: Node, check: str, subject: str, broken: Break, verdict: str
) -> None:
    broken(node)
    results = diagnose(await node.snapshot())
    subject = str(node.cdi / subject) if check == "cdi_files" else subject
    found = of(results, check, subject)
    assert found.verdict == verdict, found
    assert found.action


async def test_nothing_is_wrong_with_a_right_node(node: Node) -> None:
    results = diagnose(await node.snapshot())
    assert wrong(results) == {}
    passed = {result.check for result in results if result.verdict == Verdict.PASS}
    assert check_names() == tuple(dict.fromkeys(check_names()))
    never = set(check_names()) - passed
    others = {"registration", "kubelet", "virtual_functions", "iommu", "unallocated_use"}
    assert never == others  # see below


async def test_a_dump_of_a_driver_is_told(node: Node) -> None:
    folder = node.root / "sys/class/devcoredump/devcd1"
    folder.mkdir(parents=True)
    (folder / "failing_device").symlink_to(f"../../../devices/pci0000:00/{INTEL[0]}")
    assert of(diagnose(await node.snapshot()), "crash_dumps", "node").value == f"of {INTEL[0]}"


async def test_another_module_than_library_is_told(node: Node) -> None:
    (node.root / "sys/module/nvidia/version").write_text("550.90.07\n")
    found = of(diagnose(await node.snapshot()), "driver", "nvidia")
    assert found.verdict == Verdict.FAIL
    assert "kernel module 550.90.07" in found.value


async def test_a_driver_that_is_not_there_fails_where_its_gpus_are(node: Node) -> None:
    remove(node.root, "/usr/lib64")
    results = diagnose(await node.snapshot())
    assert of(results, "driver", "nvidia").verdict == Verdict.FAIL
    assert of(results, "gpu_count", "nvidia").verdict == Verdict.FAIL
    assert of(results, "answers", AMD_GPU).verdict == Verdict.PASS


async def test_a_pod_that_holds_the_gpu_may_use_it(node: Node) -> None:
    node.process(77, INSIDE)
    node.changes["held"] = HELD
    assert of(diagnose(await node.snapshot()), "processes", GPU).value == "1 processes"


async def test_a_pod_that_holds_the_gpu_may_open_it(node: Node) -> None:
    opens(node)
    node.changes["held"] = HELD
    assert of(diagnose(await node.snapshot()), "unallocated_use", "node").verdict == Verdict.PASS
    node.changes |= {"held": {}, "allowed": (f"{POD[0]}/{POD[1]}",)}
    assert of(diagnose(await node.snapshot()), "unallocated_use", "node").verdict == Verdict.PASS


async def test_a_process_that_is_not_seen_is_not_judged(node: Node) -> None:
    node.process(77, OUTSIDE)
    remove(node.root, "/proc/77")
    found = of(diagnose(await node.snapshot()), "processes", GPU)
    assert found.verdict == Verdict.SKIPPED
    assert found.value.startswith("1 processes")


async def test_without_gpus_nothing_is_counted_as_right(node: Node) -> None:
    remove(node.root, "/sys", "/usr", "/dev", "/proc")
    results = diagnose(await node.snapshot())
    assert of(results, "gpu_count", "node").verdict == Verdict.SKIPPED
    drivers = [result.verdict for result in results if result.check == "driver"]
    assert drivers == [Verdict.SKIPPED] * 3


async def test_a_gpu_that_hangs_is_a_finding_and_costs_no_other_vendor(node: Node) -> None:
    node.changes["deadline_s"] = 0.5
    node.rises = lambda: node.double.hang(gpu=0)
    try:
        results = diagnose(await node.snapshot())
    finally:
        node.double.unhang()
    assert of(results, "answers", GPU).verdict == Verdict.FAIL
    assert of(results, "answers", gpu_uuid(1)).verdict == Verdict.SKIPPED
    assert of(results, "answers", AMD_GPU).verdict == Verdict.PASS


async def test_functions_for_machines_have_groups(node: Node) -> None:
    node.divide_intel()
    results = diagnose(await node.snapshot())
    assert wrong(results) == {}
    assert of(results, "iommu", INTEL_GPU).verdict == Verdict.PASS
    assert of(results, "virtual_functions", INTEL[0]).value == "2 of 2 virtual functions"


def ecc_off(*faults: Fault) -> Snapshot:
    """A GPU without ECC, and what the plan of resources says of it."""
    device = Device(id=DeviceID(GPU), vendor="nvidia", ecc=False)
    gpu = GpuFacts(device=device, faults=faults)
    return Snapshot(node_name="n", taken_at=0, window_s=1, gpus=(gpu,))


def test_ecc_off_is_wrong_where_the_gpu_is_shared() -> None:
    shared = Fault(
        device=DeviceID(GPU),
        source="sharing",
        code="ecc_off_shared",
        reason="ECC is off",
        kind=FaultClass.WARN,
    )
    assert of(diagnose(ecc_off(shared)), "ecc_mode", GPU).verdict == Verdict.WARN
    assert of(diagnose(ecc_off()), "ecc_mode", GPU).verdict == Verdict.PASS


@pytest.mark.parametrize(("driver", "verdict"), [("vfio-pci", "skipped"), (None, "fail")])
def test_gpus_of_machines_need_no_driver_of_their_vendor(driver: str | None, verdict: str) -> None:
    bus = (PciGpu(address="0000:01:00.0", vendor="nvidia", driver=driver),)
    node = NodeFacts(bus=bus, vendors=(VendorStatus(name="nvidia", error="no driver"),))
    results = diagnose(Snapshot(node_name="n", taken_at=0, window_s=1, node=node))
    assert of(results, "driver", "nvidia").verdict == verdict


@pytest.mark.parametrize(
    ("registered", "listed", "verdict"),
    [
        ({"a.b/gpu": 2}, {"a.b/gpu": 2}, "pass"),
        ({"a.b/gpu": 1}, {"a.b/gpu": 2}, "fail"),
        ({}, {"a.b/gpu": 2}, "fail"),
    ],
)
def test_the_kubelet_has_what_the_daemon_lists(
    registered: dict[str, int], listed: dict[str, int], verdict: str
) -> None:
    node = NodeFacts(registered=registered, listed=listed)
    results = diagnose(Snapshot(node_name="n", taken_at=0, window_s=1, node=node))
    assert of(results, "registration", "a.b/gpu").verdict == verdict


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (NodeFacts(listed=None, daemon_problem="none runs"), "no daemon to ask: none runs"),
        (NodeFacts(listed={}, kubelet_problem="gone"), "the kubelet does not tell: gone"),
    ],
)
def test_a_registration_that_cannot_be_seen_is_skipped(facts: NodeFacts, why: str) -> None:
    results = diagnose(Snapshot(node_name="n", taken_at=0, window_s=1, node=facts))
    found = of(results, "registration", "node")
    assert (found.verdict, found.value) == (Verdict.SKIPPED, why)


async def test_what_the_kubelet_could_give_is_counted(short_dir: Path) -> None:
    stub = KubeletStub(short_dir)
    await stub.start()
    try:
        api = PodResources(short_dir / "pod-resources/kubelet.sock")
        assert await api.read_allocatable() == {}
        await api.forget()
    finally:
        await stub.aclose()


async def test_persistence_mode_that_is_on_needs_no_daemon(node: Node) -> None:
    remove(node.root, "/run/nvidia-persistenced/socket")
    found = of(diagnose(await node.snapshot()), "persistence", "node")
    assert (found.verdict, found.value) == ("pass", "it is on")


async def test_gpus_of_a_vendor_that_is_left_out_are_not_called_lost(node: Node) -> None:
    node.vendors = ("amd",)
    results = diagnose(await node.snapshot())
    found = of(results, "gpu_count", "nvidia")
    assert (found.verdict, found.value) == ("skipped", "2 on the bus; --vendors leaves them out")
    assert of(results, "gpu_count", "amd").verdict == "pass"
