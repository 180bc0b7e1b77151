"""The vendor-neutral labels, of nodes with one model and with several."""

from msgspec.structs import replace

from deviceplugin.labels.own import common_labels, own_labels
from deviceplugin.model import Device, DeviceID, ResourceName
from tests.labels.nodes import gpu, view_of

AMD = Device(
    id=DeviceID("amd-1"),
    vendor="amd",
    product="AMD Instinct MI300X",
    memory_bytes=192 << 30,
    resource=ResourceName("amd.com/gpu"),
)


def test_a_node_of_one_model_is_described_whole() -> None:
    devices = [gpu(n, resource=ResourceName("nvidia.com/gpu")) for n in range(2)]
    assert own_labels(view_of(*devices)) == {
        "deviceplugin/gpu.present": "true",
        "deviceplugin/gpu.count": "2",
        "deviceplugin/gpu.vendor": "nvidia",
        "deviceplugin/gpu.vendor.nvidia": "2",
        "deviceplugin/gpu.product": "NVIDIA-H100",
        "deviceplugin/gpu.memory": "81920",
        "deviceplugin/model.NVIDIA-H100.count": "2",
        "deviceplugin/model.NVIDIA-H100.memory": "81920",
        "deviceplugin/nvidia.driver-version": "1.2",
        "nvidia.com/gpu.isolation": "hardware",
    }


def test_several_models_have_a_count_each_and_no_value_that_is_wrong_for_one() -> None:
    found = own_labels(view_of(gpu(0), gpu(1), gpu(2, "NVIDIA T4", 16), AMD))
    for name in ("vendor", "product", "memory"):
        assert f"deviceplugin/gpu.{name}" not in found
    assert found["deviceplugin/gpu.count"] == "4"
    assert found["deviceplugin/gpu.vendor.nvidia"] == "3"
    assert found["deviceplugin/gpu.vendor.amd"] == "1"
    assert found["deviceplugin/model.NVIDIA-H100.count"] == "2"
    assert found["deviceplugin/model.NVIDIA-T4.memory"] == "16384"
    assert found["deviceplugin/model.AMD-Instinct-MI300X.count"] == "1"


def test_partitions_are_counted_by_profile_and_are_no_gpus() -> None:
    part = gpu(7, profile="1g.10gb+me", parent=DeviceID("GPU-0"))
    found = own_labels(view_of(gpu(0), part, replace(part, id=DeviceID("GPU-8"))))
    assert found["deviceplugin/gpu.count"] == "1"
    assert found["deviceplugin/partition.1g.10gb.me.count"] == "2"


def test_a_node_without_a_gpu_has_no_label() -> None:
    assert own_labels(view_of()) == {}
    assert common_labels(view_of(), "gpu") == {}


def test_what_is_unknown_has_no_label() -> None:
    found = own_labels(view_of(gpu(0, product=None, memory_bytes=None)))
    assert "deviceplugin/gpu.memory" not in found
    assert "deviceplugin/gpu.product" not in found


def test_the_short_names_are_those_of_the_model_with_the_most_gpus() -> None:
    found = common_labels(view_of(gpu(0, "NVIDIA T4", 15), gpu(1), gpu(2)), "edge")
    assert found == {
        "accelerator": "nvidia-h100",
        "gpu-type": "nvidia-h100",
        "gpu.count": "2",
        "gpu.memory": "80GiB",
        "node-type": "edge",
    }
