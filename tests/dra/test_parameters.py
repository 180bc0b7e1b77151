"""Opaque parameters: decoded strictly, the last that are for a device count, all or none."""

from typing import Any

import pytest

from deviceplugin.dra.claims import ClaimError, ClaimRef, Result, configs_of
from deviceplugin.dra.parameters import AMD, NVIDIA, check_parameters
from deviceplugin.model import Device, DeviceID

REF = ClaimRef(uid="u", namespace="default", name="train")
GPU = Device(id=DeviceID("GPU-0"), vendor="nvidia")
MIG = Device(id=DeviceID("MIG-0"), vendor="nvidia", parent=GPU.id)
AMD_GPU = Device(id=DeviceID("0000:05:00.0"), vendor="amd")


def config(
    kind: str = "GpuConfig", version: str = NVIDIA, requests: list[str] | None = None, **keys: Any
) -> dict[str, Any]:
    parameters = {"apiVersion": version, "kind": kind, **keys}
    opaque = {"driver": "d", "parameters": parameters}
    return {"source": "FromClaim", "requests": requests or [], "opaque": opaque}


def of_class(one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "source": "FromClass"}


def sharing(strategy: str, **more: Any) -> dict[str, Any]:
    return {"sharing": {"strategy": strategy, **more}}


def check(*configs: dict[str, Any], device: Device = GPU, request: str = "main") -> None:
    document = {"status": {"allocation": {"devices": {"config": list(configs)}}}}
    result = Result(request=request, pool="n", device="gpu-0")
    check_parameters(REF, configs_of(document, REF, "d"), [(result, device)])


SLICES = {"timeSlicingConfig": {"interval": "Default"}}
MPS = {"mpsConfig": {"defaultActiveThreadPercentage": 50}}


@pytest.mark.parametrize(
    "configs",
    [
        (),
        (config(),),
        (config(**sharing("TimeSlicing")),),
        (config(**sharing("TimeSlicing", **SLICES)),),
        (config(**sharing("TimeSlicing")), of_class(config(**sharing("MPS", **MPS)))),
        (config(requests=["other"], **sharing("MPS")),),
        (config("MigDeviceConfig", **sharing("MPS")),),
        ({**config(**sharing("MPS")), "opaque": {"driver": "another", "parameters": {"x": 1}}},),
    ],
    ids=["none", "empty", "time", "interval", "beats its class", "of another", "of mig", "foreign"],
)
def test_what_a_gpu_does_by_itself_is_accepted(configs: tuple[dict[str, Any], ...]) -> None:
    check(*configs)


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (config(**sharing("MPS")), "sharing.strategy: 'MPS': no MPS server is run for a claim"),
        (
            config(**sharing("TimeSlicing", timeSlicingConfig={"interval": "Long"})),
            "sharing.timeSlicingConfig.interval: 'Long': time slices are not set",
        ),
        (config(**sharing("Turns")), "sharing.strategy: 'Turns': invalid enum value"),
        (config(**sharing("TimeSlicing", **MPS)), "sharing: mpsConfig is for the strategy MPS"),
        (config(**sharing("MPS", **SLICES)), "sharing: timeSlicingConfig is for the strategy"),
        (config(sharing=[]), "parameters.sharing: expected `object | null`"),
        (config(shared=True), "object contains unknown field `shared`"),
        (
            config(**sharing("MPS", mpsConfig={"defaultActiveThreadPercentage": 101})),
            "defaultActiveThreadPercentage: 101: expected `int` <= 100",
        ),
        (
            config(**sharing("MPS", mpsConfig={"defaultPinnedDeviceMemoryLimit": "much"})),
            "mpsConfig: 'much' is no quantity such as 4Gi",
        ),
        (config("Gpu"), "kind: 'resource.nvidia.com/v1beta1 Gpu' is not known: one of"),
        (config("VfioDeviceConfig"), "kind: devices for virtual machines are not given"),
        (config("MigDeviceConfig", requests=["main"]), "MigDeviceConfig is not for device gpu-0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_kept_is_refused_with_its_key(one: dict[str, Any], text: str) -> None:
    with pytest.raises(ClaimError) as refused:
        check(one)
    assert str(refused.value).startswith("claim default/train: config[0].opaque.parameters")
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)


def test_parameters_of_a_request_are_those_of_its_alternatives() -> None:
    with pytest.raises(ClaimError):
        check(config(requests=["main"], **sharing("MPS")), request="main/large")


def test_mig_instances_and_amd_gpus_have_kinds_of_their_own() -> None:
    check(config("MigDeviceConfig", **sharing("TimeSlicing")), device=MIG)
    check(config("GpuConfig", AMD), device=AMD_GPU)
    with pytest.raises(ClaimError, match="no MPS server"):
        check(config("MigDeviceConfig", **sharing("MPS")), device=MIG)
    with pytest.raises(ClaimError, match="unknown field `sharing`"):
        check(config("GpuConfig", AMD, **sharing("MPS")), device=AMD_GPU)
