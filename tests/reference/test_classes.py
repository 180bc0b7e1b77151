"""Which resources satisfy a class of workloads: in `discover`, and as labels."""

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceplugin.cli.tables import report_text
from deviceplugin.config.load import load
from deviceplugin.daemon.workloads import workload_classes
from deviceplugin.documents.needs import Precision, Workload, Workloads
from deviceplugin.labels.asked import asked_labels
from deviceplugin.labels.own import NodeView
from deviceplugin.model import Device, DeviceID, Inventory, ResourceName, VendorStatus, frozen
from deviceplugin.resources.plan import plan_resources
from deviceplugin.resources.report import report
from deviceplugin.vendors.nvidia.settings import CudaSection
from tests.labels.test_values import is_taken

BLOCK = Path(__file__).parent / "blocks/1.2.1.yaml"
Facts = dict[str, str]


def device(number: int, gib: int | None, facts: Facts, **more: Any) -> Device:
    return Device(
        id=DeviceID(f"GPU-{number}"),
        vendor=more.pop("vendor", "nvidia"),
        memory_bytes=None if gib is None else gib << 30,
        attributes=frozen(facts),
        **{"resource": ResourceName("nvidia.com/gpu")} | more,
    )


H100 = [device(n, 80, {"compute_capability": "9.0"}, product="H100") for n in range(2)]
MIG = [
    device(
        8 + n,
        10,
        {"compute_capability": "9.0"},
        parent=DeviceID("GPU-9"),
        resource=ResourceName("nvidia.com/mig-1g.10gb"),
    )
    for n in range(3)
]
MI300X = device(
    20,
    192,
    {"gfx_version": "gfx942"},
    vendor="amd",
    product="AMD Instinct MI300X",
    resource=ResourceName("amd.com/gpu"),
)


def view(*devices: Device, driver: str = "550.54.15") -> NodeView:
    inventory = Inventory(
        devices={d.id: d for d in devices},
        vendors={"nvidia": VendorStatus(name="nvidia", driver_version=driver)},
    )
    return NodeView(inventory=inventory, resources=plan_resources(inventory).resources)


def classes(workloads: object, *devices: Device) -> dict[str, Any]:
    inventory = view(*devices).inventory
    shown = report("n", inventory, plan_resources(inventory))
    found: dict[str, Any] = workload_classes(workloads, shown)
    return found["workloads"]  # type: ignore[no-any-return]  # a document


def test_each_class_names_the_resources_that_have_all_that_it_asks_for() -> None:
    config, _ = load({"config": str(BLOCK)})
    assert classes(config.sections["workloads"], *H100, *MIG) == {
        "training": {"met": True, "resources": {"nvidia.com/gpu": 2}},
        "inference": {
            "met": True,
            "resources": {"nvidia.com/gpu": 2, "nvidia.com/mig-1g.10gb": 3},
        },
        "edge_inference": {
            "met": True,
            "resources": {"nvidia.com/gpu": 2, "nvidia.com/mig-1g.10gb": 3},
        },
    }


@pytest.mark.parametrize(
    ("asked", "devices", "met"),
    [
        (Workload(gpu_memory="32GiB"), MIG, False),
        (Workload(gpu_memory="32GiB"), [device(0, None, {})], None),
        (Workload(gpu_memory="32GiB"), [], False),
        (Workload(compute_capability="8.0+"), [MI300X], None),
        (Workload(tensor_cores=True), [MI300X], True),
        (Workload(precision="FP8"), [MI300X], True),
        (Workload(precision="FP4"), [MI300X], False),
        (Workload(precision="INT4"), H100, False),
        (Workload(precision="FP8", gpu_memory="100GiB"), H100, False),
        (Workload(), H100, True),
    ],
)
def test_what_nothing_tells_is_neither_met_nor_unmet(
    asked: Workload, devices: list[Device], met: bool | None
) -> None:
    assert classes(Workloads(training=asked), *devices)["training"]["met"] is met


def test_the_table_of_discover_shows_the_classes() -> None:
    inventory = view(*H100).inventory
    shown = report("n", inventory, plan_resources(inventory))
    asked = Workloads(
        training=Workload(gpu_memory="32GiB"), inference=Workload(gpu_memory="100GiB")
    )
    lines = report_text(shown | workload_classes(asked, shown)).splitlines()
    assert ["training", "yes", "nvidia.com/gpu", "(2)"] in [line.split() for line in lines]
    assert ["inference", "no", "-"] in [line.split() for line in lines]


def test_classes_and_drivers_are_labels() -> None:
    asked = {
        "workloads": Workloads(
            training=Workload(gpu_memory="32GiB"), inference=Workload(gpu_memory="200GiB")
        ),
        "cuda": CudaSection(version="12.5"),
    }
    assert asked_labels(asked, view(*H100, *MIG)) == {
        "deviceplugin/cuda-12.5": "compatible",
        "deviceplugin/workload.training": "true",
        "deviceplugin/workload.training.nvidia.com_gpu": "2",
        "deviceplugin/workload.inference": "false",
    }
    assert asked_labels(asked, view()) == {}


def test_what_is_not_known_has_no_label() -> None:
    asked = {
        "workloads": Workloads(training=Workload(compute_capability="8.0")),
        "cuda": CudaSection(version="99.1"),
    }
    assert asked_labels(asked, view(MI300X)) == {}


@given(
    st.text(max_size=70),
    st.text(max_size=70) | st.from_regex(r"\A[0-9.]{1,20}\Z"),
    st.sampled_from(get_args(Precision)),
)
def test_every_label_of_what_is_asked_is_taken(name: str, version: str, precision: Any) -> None:
    gpu = device(0, 80, {"compute_capability": version}, product=name)
    asked = {
        "workloads": Workloads(training=Workload(gpu_memory="1GiB", precision=precision)),
        "cuda": CudaSection(version=version or None),
    }
    found = asked_labels(asked, view(gpu))
    assert [key for key, value in found.items() if not is_taken(key, value)] == []
