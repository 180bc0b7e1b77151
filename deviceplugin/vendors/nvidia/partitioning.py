"""MIG made and destroyed through NVML: the hands of `deviceplugin provision`, never of the daemon.

A driver answers SetMigMode with success although nothing was activated: the verdict is what it
returns beside (nvml.h, nvmlDeviceSetMigMode), and the mode that is read afterwards.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from msgspec import Struct

from deviceplugin.errors import LibraryError, VendorError
from deviceplugin.host import Host
from deviceplugin.host.device_nodes import DeviceNodes
from deviceplugin.host.pci import parse_address
from deviceplugin.schema import section_of
from deviceplugin.vendor import Sections
from deviceplugin.vendor.partitions import (
    Instance,
    Mig,
    PartitionedGpu,
    Partitioner,
    Profile,
    Step,
    Verb,
)
from deviceplugin.vendors.nvidia.capabilities import CapabilityNodes, Nodes
from deviceplugin.vendors.nvidia.codes import NOT_FOUND
from deviceplugin.vendors.nvidia.folders import read_dev_root
from deviceplugin.vendors.nvidia.library import MAX_INSTANCES, Nvml, open_nvml
from deviceplugin.vendors.nvidia.mig import (
    PROFILE_INDICES,
    profile_info,
    profile_name,
    read_instance_handle,
    suffix_at,
)
from deviceplugin.vendors.nvidia.settings import NvidiaSection
from deviceplugin.vendors.nvidia.users import read_users

HOPPER = 9  # nvml.h, NVML_DEVICE_ARCH_HOPPER: from it on the mode changes without a reset
_VGPU = 2  # nvml.h, NVML_GPU_VIRTUALIZATION_MODE_VGPU
_CI_PROFILES = 16
_MANY = 64  # GPUs of a node
_GUEST = "this is a vGPU: its instances are those that the hypervisor gave it"
_ENGINES = {
    "copy": "copyEngineCount",
    "decoder": "decoderCount",
    "encoder": "encoderCount",
    "jpeg": "jpegCount",
    "ofa": "ofaCount",
}


def partitioner(host: Host, sections: Sections) -> Partitioner:
    """The hands for this node; no library is loaded before they are used."""
    settings = section_of(sections, "nvidia", NvidiaSection)
    return NvidiaPartitioner(host, settings, DeviceNodes(host))


class _Found(Struct, frozen=True):
    """An instance with its handle and its number."""

    handle: Any
    instance: Instance
    number: int


class NvidiaPartitioner:
    """One NVML, opened when it is first needed."""

    def __init__(self, host: Host, settings: NvidiaSection, nodes: Nodes) -> None:
        self._host, self._settings, self._nodes = host, settings, nodes
        self._opened: Nvml | None = None

    @property
    def _nvml(self) -> Nvml:
        if self._opened is None:
            asked = self._settings
            self._opened = open_nvml(self._host, asked.driver_root, asked.driver_library_dirs)
        return self._opened

    @cached_property
    def _capabilities(self) -> CapabilityNodes:
        root = read_dev_root(self._host, self._settings.dev_root, self._nvml.driver_root)
        return CapabilityNodes(self._host, root, self._nodes)

    def read(self) -> Sequence[PartitionedGpu]:
        """All GPUs that NVML has."""
        count = self._nvml.count("nvmlDeviceGetCount", _MANY)
        handles = [self._nvml.call("nvmlDeviceGetHandleByIndex", index) for index in range(count)]
        return [self._read_gpu(index, handle) for index, handle in enumerate(handles)]

    def apply(self, step: Step) -> None:
        """Do the step; raises VendorError."""
        gpu = self._nvml.call("nvmlDeviceGetHandleByUUID", step.gpu)
        if step.verb is Verb.MIG_MODE:
            self._set_mode(gpu, step.number)
        elif step.verb is Verb.CREATE:
            self._create(gpu, step)
        elif step.verb is Verb.DESTROY:
            for found in self._at(gpu, step):
                self._destroy(gpu, found)
        else:
            raise VendorError(f"an NVIDIA GPU knows no {step.verb}")

    def is_done(self, step: Step) -> bool:
        """Whether the hardware is as after the step."""
        gpu = self._nvml.call("nvmlDeviceGetHandleByUUID", step.gpu)
        if step.verb is Verb.MIG_MODE:
            return bool(self._nvml.call("nvmlDeviceGetMigMode", gpu)[0] == step.number)
        there = list(self._at(gpu, step))
        if step.verb is Verb.DESTROY:
            return not there
        minor, nodes = self._minor(gpu), self._capabilities
        return any(one.instance.whole and nodes.are_there(minor, one.number) for one in there)

    def close(self) -> None:
        """Let NVML go: a client of it can keep a GPU from changing its mode."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    # -- reading ----------------------------------------------------------------------------
    def _read_gpu(self, index: int, gpu: Any) -> PartitionedGpu:
        nvml = self._nvml
        pci = nvml.call("nvmlDeviceGetPciInfo_v3", gpu)
        bus = pci.busId.decode() if isinstance(pci.busId, bytes) else str(pci.busId)
        users = read_users(nvml, gpu)
        return PartitionedGpu(
            id=nvml.uuid(gpu),
            vendor="nvidia",
            product=nvml.text("nvmlDeviceGetName", gpu) or "GPU of unknown name",
            index=index,
            address=parse_address(bus),
            device=f"0x{int(pci.pciDeviceId):08X}",
            mig=self._read_mig(gpu, users),
            users=tuple(sorted(name for names in users.values() for name in names)),
        )

    def _read_mig(self, gpu: Any, users: Mapping[int, list[str]]) -> Mig | None:
        nvml = self._nvml
        modes = nvml.ask("nvmlDeviceGetMigMode", gpu)
        if modes is None:
            return None
        current, pending = modes
        architecture = nvml.ask("nvmlDeviceGetArchitecture", gpu) or 0
        guest = nvml.ask("nvmlDeviceGetVirtualizationMode", gpu) == _VGPU
        profiles = tuple(self._profiles(gpu))
        found = self._instances(gpu, profiles, users) if current else ()
        return Mig(
            enabled=bool(current),
            pending=bool(pending),
            live=architecture >= HOPPER,
            fixed=_GUEST if guest else "",
            profiles=profiles,
            instances=tuple(sorted(one.instance for one in found)),
        )

    def _profiles(self, gpu: Any) -> Iterator[Profile]:
        total = int(self._nvml.call("nvmlDeviceGetMemoryInfo", gpu).total)
        for index in range(PROFILE_INDICES):
            info = profile_info(self._nvml, gpu, index)
            if info is None:
                continue
            slices = (info.sliceCount, info.sliceCount)
            suffix = suffix_at(index, info)
            places = self._nvml.placements(gpu, info.id) or []
            yield Profile(
                name=profile_name(
                    total_bytes=total, memory_mib=info.memorySizeMB, slices=slices, suffix=suffix
                ),
                id=int(info.id),
                size=places[0][1] if places else int(info.sliceCount),
                starts=tuple(sorted(start for start, _ in places)),
                instances=int(info.instanceCount),
                memory_bytes=int(info.memorySizeMB) << 20,
                multiprocessors=int(info.multiprocessorCount),
                engines={key: int(getattr(info, name)) for key, name in _ENGINES.items()},
            )

    def _instances(
        self, gpu: Any, profiles: Sequence[Profile], users: Mapping[int, list[str]]
    ) -> Iterator[_Found]:
        function, kind = "nvmlDeviceGetGpuInstances", "c_nvmlGpuInstance_t"
        devices = self._devices(gpu)
        for profile in profiles:
            for handle in self._nvml.instances(function, kind, gpu, profile.id):
                info = self._nvml.call("nvmlGpuInstanceGetInfo", handle)
                yield _Found(
                    handle,
                    Instance(
                        profile=profile.name,
                        start=int(info.placement.start),
                        size=int(info.placement.size),
                        whole=bool(self._compute_instances(handle)),
                        users=tuple(sorted(users.get(int(info.id), ()))),
                        devices=tuple(devices.get(int(info.id), ())),
                    ),
                    int(info.id),
                )

    def _devices(self, gpu: Any) -> Mapping[int, list[str]]:
        """The UUIDs of the MIG devices by GPU instance."""
        nvml, found = self._nvml, dict[int, list[str]]()
        for slot in range(nvml.count("nvmlDeviceGetMaxMigDeviceCount", MAX_INSTANCES, gpu)):
            device = read_instance_handle(nvml, gpu, slot)
            if device is not None:
                number = int(nvml.call("nvmlDeviceGetGpuInstanceId", device))
                found.setdefault(number, []).append(nvml.uuid(device))
        return found

    def _compute_profiles(self, instance: Any) -> Iterator[Any]:
        function = "nvmlGpuInstanceGetComputeInstanceProfileInfo"
        for index in range(_CI_PROFILES):
            try:
                info = self._nvml.ask(function, instance, index, 0)
            except LibraryError:  # an index above those that this driver has
                continue
            if info is not None:
                yield info

    def _compute_instances(self, instance: Any) -> list[Any]:
        function, kind = "nvmlGpuInstanceGetComputeInstances", "c_nvmlComputeInstance_t"
        ids = {int(info.id) for info in self._compute_profiles(instance)}
        return [
            handle
            for number in sorted(ids)
            for handle in self._nvml.instances(function, kind, instance, number)
        ]

    # -- changing ---------------------------------------------------------------------------
    def _at(self, gpu: Any, step: Step) -> Iterator[_Found]:
        """The instance of the step's profile at its place, whole or not."""
        named = [profile for profile in self._profiles(gpu) if profile.name == step.name]
        for found in self._instances(gpu, named, {}):
            if found.instance.start == step.number:
                yield found

    def _set_mode(self, gpu: Any, mode: int) -> None:
        nvml = self._nvml
        before = int(nvml.call("nvmlDeviceGetMigMode", gpu)[0])
        if before == mode:
            return
        activation = int(nvml.call("nvmlDeviceSetMigMode", gpu, mode))
        if activation or nvml.call("nvmlDeviceGetMigMode", gpu)[0] != mode:
            nvml.call("nvmlDeviceSetMigMode", gpu, before)  # or it would come with the next reset
            text = (
                f"MIG mode {mode} was not activated (NVML {activation}); it is {before} as before"
            )
            raise LibraryError("nvmlDeviceSetMigMode", activation, text)

    def _create(self, gpu: Any, step: Step) -> None:
        for found in self._at(gpu, step):
            if not found.instance.whole:
                self._destroy(gpu, found)
        if not list(self._at(gpu, step)):
            self._create_at(gpu, step)
        for found in self._at(gpu, step):
            self._capabilities.make(self._minor(gpu), found.number)

    def _create_at(self, gpu: Any, step: Step) -> None:
        profile = next((one for one in self._profiles(gpu) if one.name == step.name), None)
        if profile is None:
            raise VendorError(f"{step.name} is no profile of {step.gpu}")
        made = self._nvml.create_instance(gpu, profile.id, step.number, profile.size)
        try:
            self._nvml.call("nvmlGpuInstanceCreateComputeInstance", made, self._whole_of(made))
        except LibraryError:
            self._nvml.call("nvmlGpuInstanceDestroy", made)
            raise

    def _whole_of(self, instance: Any) -> int:
        """The compute profile that takes all of an instance."""
        largest = max(self._compute_profiles(instance), key=lambda info: int(info.sliceCount))
        return int(largest.id)

    def _destroy(self, gpu: Any, found: _Found) -> None:
        """Its nodes go first, so that none is left behind, and come again where it stays."""
        minor, nodes = self._minor(gpu), self._capabilities
        nodes.remove(minor, found.number)
        try:
            for compute in self._compute_instances(found.handle):
                self._gone("nvmlComputeInstanceDestroy", compute)
            self._gone("nvmlGpuInstanceDestroy", found.handle)
        except LibraryError:
            nodes.make(minor, found.number)
            raise

    def _minor(self, gpu: Any) -> int | None:
        minor = self._nvml.ask("nvmlDeviceGetMinorNumber", gpu)
        return None if minor is None else int(minor)

    def _gone(self, function: str, handle: Any) -> None:
        try:
            self._nvml.call(function, handle)
        except LibraryError as error:
            if error.code != NOT_FOUND:
                raise
