"""What a container or a virtual machine's pod gets for AMD devices; pure.

AMD has no container runtime of its own: the device nodes alone make a GPU usable (ROCm's container
documentation), and every variable below is set only where the configuration asks for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace

from deviceplugin.edits import VfioFunction, merge_edits, vfio_edits
from deviceplugin.model import CdiSpec, ContainerEdits, Device, DeviceNode, ResourceName, frozen
from deviceplugin.vendors.amd.settings import Settings
from deviceplugin.vendors.amd.virtual_functions import VFIO

CDI_STRATEGIES = frozenset({"cdi-cri", "cdi-annotations"})
CDI_KIND = "k8s.device-plugin.amd.com/gpu"
# Page migration, by which ROCm unifies memory, needs retry of faults: MI200 and later (XNACK).
_WITH_XNACK = frozenset({"gfx90a", "gfx940", "gfx941", "gfx942", "gfx950"})


def container_edits(devices: Sequence[Device], settings: Settings) -> ContainerEdits:
    """The edits for all `devices` together: each shared node and variable once."""
    for_vm: dict[ResourceName | None, list[Device]] = {}
    parts: list[ContainerEdits] = []
    for device in devices:
        if is_for_vm(device):
            for_vm.setdefault(device.resource, []).append(device)
        else:
            parts += [_by_nodes(device, settings), _cdi_names(device, settings)]
    parts += [vfio_edits(name, _functions(for_vm[name])) for name in for_vm if name]
    return merge_edits(parts)


def _by_nodes(device: Device, settings: Settings) -> ContainerEdits:
    """The device's variables, and its nodes unless a CDI name carries them."""
    edits = device_edits(device, settings)
    if "device-specs" in settings.amd.device_list_strategy:
        return edits
    return replace(edits, device_nodes=())


def _cdi_names(device: Device, settings: Settings) -> ContainerEdits:
    """The device's CDI name, for runtimes that get it from the kubelet or from annotations; each
    device has its own annotation, so that two resources of one container do not collide."""
    strategies, name = settings.amd.device_list_strategy, f"{CDI_KIND}={device.id}"
    key = f"cdi.k8s.io/amd_{device.id.replace(':', '-')}"
    return ContainerEdits(
        cdi_devices=(name,) if "cdi-cri" in strategies else (),
        annotations=frozen({key: name} if "cdi-annotations" in strategies else {}),
    )


def is_for_vm(device: Device) -> bool:
    """Whether the device is a function for a virtual machine, no GPU for a container."""
    return device.driver == VFIO


def device_edits(device: Device, settings: Settings) -> ContainerEdits:
    """Nodes and variables of one GPU, partition or virtual function for a container."""
    return ContainerEdits(
        env=frozen(runtime_variables(device, settings)),
        device_nodes=tuple(DeviceNode(path=p, host_path=p, permissions="rw") for p in device.nodes),
    )


def runtime_variables(device: Device, settings: Settings) -> Mapping[str, str]:
    """The ROCm runtime's variables that the configuration asks for, none unasked.

    HSA_XNACK and HIP_MEM_POOL_SUPPORT are what ROCr and HIP read (ROCm documentation); the
    ROCM_ names are those that our users' images look for.
    """
    amd, runtime = settings.amd, settings.rocm.runtime
    variables: dict[str, str] = {}
    if amd.hsa_override_gfx_version is not None:
        variables["HSA_OVERRIDE_GFX_VERSION"] = amd.hsa_override_gfx_version
    if amd.rocm_path is not None:
        variables["ROCM_PATH"] = amd.rocm_path
    if runtime.memory_pool:
        variables |= {"HIP_MEM_POOL_SUPPORT": "1", "ROCM_MEMORY_POOL": "true"}
    if runtime.unified_memory:
        variables["ROCM_UNIFIED_MEMORY"] = "true"
        if device.architecture in _WITH_XNACK:
            variables["HSA_XNACK"] = "1"
    return variables


def cdi_specs(devices: Iterable[Device], settings: Settings) -> tuple[CdiSpec, ...]:
    """One CDI file with every GPU that a container can have, from the same edits; without
    devices, which means no file, where no strategy names CDI."""
    wanted = devices if CDI_STRATEGIES & set(settings.amd.device_list_strategy) else ()
    named = {
        str(device.id): device_edits(device, settings)
        for device in sorted(wanted, key=_device_id)
        if device.resource is not None and not is_for_vm(device)
    }
    return (CdiSpec(kind=CDI_KIND, devices=MappingProxyType(named)),)


def _device_id(device: Device) -> str:
    return device.id


def _functions(devices: Iterable[Device]) -> list[VfioFunction]:
    return [
        VfioFunction(address=address, nodes=device.nodes)
        for device in devices
        for address in device.functions
    ]
