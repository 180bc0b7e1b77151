"""What a GPU is offered as: whole, as MIG instances, or not at all, with the reason; pure but for
looking which device nodes exist."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

from deviceplugin.faults import NODE_MISSING
from deviceplugin.host import Host
from deviceplugin.model import (
    Device,
    DeviceID,
    Fault,
    FaultClass,
    Isolation,
    Link,
    ResourceName,
    frozen,
)
from deviceplugin.vendors.nvidia.faults import DISCOVERY, state_faults
from deviceplugin.vendors.nvidia.gpus import NvidiaGpu
from deviceplugin.vendors.nvidia.mig import MigInstance, capability_nodes, place_of, resource_suffix
from deviceplugin.vendors.nvidia.settings import MigSection, NvidiaSection, VgpuSection
from deviceplugin.vendors.nvidia.vgpu_guest import HOST_VGPU, VGPU, guest_vgpu

SOURCE = "nvidia.layout"
WHOLE = ResourceName("nvidia.com/gpu")
CONTROL_NODES = (
    "/dev/nvidia-modeset",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidiactl",
)
_SWITCH = {True: "enabled", False: "disabled", None: None}

Found = tuple[tuple[Device, ...], tuple[Fault, ...]]


class Naming(Struct, frozen=True, kw_only=True):
    """How GPUs become resources on this node now.

    `single_profile` is the profile that `nvidia.com/gpu` stands for under the strategy single
    (None: whole GPUs), `dev_root` the host directory that holds `dev`, `divided` the PCI addresses
    of the GPUs that virtual machines have vGPUs of: these cannot be had whole.
    """

    settings: NvidiaSection
    mig: MigSection
    dev_root: str
    single_profile: str | None = None
    vgpu: VgpuSection = field(default_factory=VgpuSection)
    divided: frozenset[str] = frozenset()

    def instance_resource(self, profile: str) -> ResourceName | None:
        """The resource of a MIG profile, None where the configuration does not offer it."""
        name = resource_suffix(profile)
        if not self.mig.enabled or self.settings.mig_strategy == "none":
            return None
        listed = self.mig.instances
        if listed is not None and name not in {instance.name for instance in listed}:
            return None
        if self.settings.mig_strategy == "single":
            return WHOLE if profile == self.single_profile else None
        return ResourceName(f"nvidia.com/{name}")


def naming_for(
    settings: NvidiaSection,
    mig: MigSection,
    dev_root: str,
    gpus: Sequence[NvidiaGpu],
    vgpu: VgpuSection | None = None,
) -> Naming:
    """The naming for a set of GPUs.

    The strategy single promises one kind of device: on a node that mixes profiles the most
    frequent one is it (the first by name of several), and the others get a fault and are left out.
    """
    counts = Counter(i.profile for gpu in gpus for i in gpu.instances)
    profile = min(counts, key=lambda name: (-counts[name], name), default=None)
    single = profile if settings.mig_strategy == "single" and mig.enabled else None
    return Naming(
        settings=settings,
        mig=mig,
        dev_root=dev_root,
        single_profile=single,
        vgpu=vgpu or VgpuSection(),
    )


class Locality(Struct, frozen=True, kw_only=True):
    """Where a GPU is: its NUMA node, and its links to the other GPUs."""

    numa_node: int | None = None
    links: tuple[Link, ...] = ()


def devices_of_gpu(
    host: Host,
    gpu: NvidiaGpu,
    naming: Naming,
    minors: Mapping[str, int],
    locality: Locality,
) -> Found:
    """The devices of one GPU, the GPU itself first, and the faults of its layout."""
    nodes = _existing(host, naming, (*CONTROL_NODES, f"/dev/nvidia{gpu.minor}"))
    resource = _whole_resource(gpu, naming)
    guest = guest_vgpu(gpu, naming.vgpu) if resource else None
    whole = Device(
        id=DeviceID(gpu.uuid),
        vendor="nvidia",
        product=gpu.product,
        resource=VGPU if guest else resource,
        index=gpu.index,
        profile=guest.profile if guest else None,
        pci_address=gpu.pci_address,
        numa_node=locality.numa_node,
        memory_bytes=gpu.memory_bytes,
        policy=naming.vgpu.scheduling.policy if guest else None,
        nodes=nodes,
        links=locality.links,
        attributes=frozen({**_attributes(gpu), **(guest.attributes if guest else {})}),
        ecc=gpu.ecc,
        architecture=gpu.architecture,
        least_isolation=Isolation.asked(naming.vgpu.scheduling.isolation if guest else None),
    )
    parts = tuple(_part(host, gpu, whole, instance, (naming, minors)) for instance in gpu.instances)
    own = (*state_faults(gpu, whole), *_whole_faults(gpu, whole, naming))
    cut = (f for p, i in zip(parts, gpu.instances, strict=True) for f in _part_faults(p, i, naming))
    return (whole, *parts), (*own, *cut)


def _whole_resource(gpu: NvidiaGpu, naming: Naming) -> ResourceName | None:
    """A GPU in MIG mode cannot be used whole, whatever the strategy, nor one whose driver
    serves virtual machines: that driver has no CUDA."""
    for_vm = gpu.virtualization == HOST_VGPU or gpu.pci_address in naming.divided
    return None if gpu.mig or for_vm or naming.single_profile is not None else WHOLE


def _part(
    host: Host,
    gpu: NvidiaGpu,
    whole: Device,
    instance: MigInstance,
    names: tuple[Naming, Mapping[str, int]],
) -> Device:
    naming, minors = names
    own = _existing(host, naming, capability_nodes(minors, gpu.minor, instance))
    return Device(
        id=DeviceID(instance.uuid),
        vendor="nvidia",
        product=gpu.product,
        resource=naming.instance_resource(instance.profile),
        index=instance.index,
        parent=whole.id,
        profile=instance.profile,
        pci_address=gpu.pci_address,
        numa_node=whole.numa_node,
        memory_bytes=instance.memory_mib << 20,
        policy=naming.mig.scheduling.policy,
        nodes=tuple(sorted({*whole.nodes, *own})) if own else whole.nodes,
        attributes=_part_attributes(gpu, instance),
        isolation=_isolation(instance.profile),
        ordinal=f"{gpu.index}:{instance.index}",
        ecc=gpu.ecc,
        architecture=gpu.architecture,
        least_isolation=Isolation.asked(naming.mig.scheduling.isolation),
        place=place_of(instance, gpu.memory_bytes),
    )


def _part_attributes(gpu: NvidiaGpu, instance: MigInstance) -> Mapping[str, str]:
    return frozen(
        {
            **_attributes(gpu),
            "gpu_index": str(gpu.index),
            "gpu_instance": str(instance.gpu_instance),
            "compute_instance": str(instance.compute_instance),
            "multiprocessors": str(instance.multiprocessors),
            **_instance_attributes(instance),
        }
    )


def _instance_attributes(instance: MigInstance) -> Mapping[str, str]:
    """What an instance has of its GPU; `copy_engines` and the others are shared by the compute
    instances of one GPU instance."""
    found = {f"{name}_engines": str(count) for name, count in instance.engines}
    if instance.slices is not None:
        found |= zip(("gpu_slices", "compute_slices"), map(str, instance.slices), strict=True)
    if instance.place is not None:
        names = ("instance_profile", "placement_start", "placement_size")
        found |= zip(names, map(str, instance.place), strict=True)
    return found


def _isolation(profile: str) -> Isolation:
    """Compute instances of one GPU instance (`1c.3g.20gb`) have its memory in common."""
    return Isolation.PROCESS if profile.partition("g.")[0].count("c.") else Isolation.HARDWARE


def _attributes(gpu: NvidiaGpu) -> Mapping[str, str]:
    known = {
        "architecture": gpu.architecture,
        "compute_capability": gpu.compute_capability,
        "confidential_computing": gpu.confidential,
        "ecc": _SWITCH[gpu.ecc],
        "fabric_clique": gpu.fabric.clique if gpu.fabric else None,
        "mig": _SWITCH[gpu.mig],
        "memory_bandwidth": None if gpu.bandwidth_gbs is None else f"{gpu.bandwidth_gbs} GB/s",
        "minor": str(gpu.minor),
        "persistence": _SWITCH[gpu.persistence],
    }
    return frozen({key: value for key, value in known.items() if value is not None})


def _existing(host: Host, naming: Naming, paths: Iterable[str]) -> tuple[str, ...]:
    rooted = (f"{naming.dev_root.rstrip('/')}{path}" for path in paths)
    return tuple(sorted(path for path in rooted if host.exists(path)))


def _whole_faults(gpu: NvidiaGpu, whole: Device, naming: Naming) -> Iterable[Fault]:
    if gpu.mig is not None and gpu.mig != gpu.mig_pending:
        wanted = "on" if gpu.mig_pending else "off"
        yield _told(
            whole, "mig_mode_pending", f"MIG mode is to be turned {wanted}", "reset the GPU"
        )
    if gpu.mig and not gpu.instances:
        action = "create instances (nvidia-smi mig -cgi …) or turn MIG mode off"
        yield _told(whole, "mig_without_instances", "MIG mode is on, without instances", action)
    elif gpu.mig and naming.settings.mig_strategy == "none":
        action = "set nvidia.mig_strategy to mixed or single, or turn MIG mode off"
        yield _told(whole, "mig_not_offered", "MIG mode is on, mig_strategy is none", action)
    if not gpu.mig and naming.single_profile is not None:
        reason = f"mig_strategy is single and stands for {naming.single_profile} on this node"
        yield _told(whole, "not_single", reason, "set nvidia.mig_strategy to mixed")
    if whole.resource and naming.settings.needs_nodes and not _has_own_node(gpu, whole):
        yield node_missing(whole, f"/dev/nvidia{gpu.minor}", naming.dev_root)


def _part_faults(part: Device, instance: MigInstance, naming: Naming) -> Iterable[Fault]:
    single = naming.single_profile
    if single is not None and instance.profile != single:
        reason = f"mig_strategy is single and stands for {single} on this node"
        yield _told(part, "not_single", reason, "set nvidia.mig_strategy to mixed")
    if part.resource and naming.settings.needs_nodes and not _has_capability_nodes(part):
        ids = f"gi{instance.gpu_instance} ci{instance.compute_instance}"
        missing = f"/dev/nvidia-caps/nvidia-cap<number> of {ids}"
        yield node_missing(part, missing, naming.dev_root)
    yield from _declared_faults(part, instance, naming)


def _declared_faults(part: Device, instance: MigInstance, naming: Naming) -> Iterable[Fault]:
    """What `mig.instances` says of a profile and the driver contradicts."""
    for declared in naming.mig.instances or ():
        units = declared.compute_units
        if declared.name != resource_suffix(instance.profile) or units is None:
            continue
        if units != instance.multiprocessors:
            reason = (
                f"mig.instances says {units} compute units, the driver {instance.multiprocessors}"
            )
            yield Fault(
                device=part.id,
                source=SOURCE,
                code="declared_compute_units",
                reason=reason,
                action="correct compute_units in mig.instances",
                kind=FaultClass.INFO,
            )


def _has_own_node(gpu: NvidiaGpu, whole: Device) -> bool:
    return any(node.endswith(f"/nvidia{gpu.minor}") for node in whole.nodes)


def _has_capability_nodes(part: Device) -> bool:
    return sum("/nvidia-caps/" in node for node in part.nodes) == 2


def _told(device: Device, code: str, reason: str, action: str) -> Fault:
    return Fault(
        device=device.id,
        source=SOURCE,
        code=code,
        reason=reason,
        action=action,
        kind=FaultClass.WARN,
    )


def node_missing(device: Device, missing: str, dev_root: str = "/") -> Fault:
    """A device node that answers or CDI files need is not below `dev_root` (a host path)."""
    root = dev_root.rstrip("/")
    action = "run nvidia-modprobe -c 0 -u (MIG: -f) or nvidia-smi on the host to create it"
    if root:
        action = f"{action}; if the host's nodes are elsewhere, set nvidia.dev_root (/ for /dev)"
    return NODE_MISSING.fault(device.id, DISCOVERY, f"{root}{missing}", action=action)
