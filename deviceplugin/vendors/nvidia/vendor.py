"""The NVIDIA vendor: looks at the GPUs through an NVML session, answers for containers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import Event

from deviceplugin.edits import merge_edits
from deviceplugin.errors import UnavailableError
from deviceplugin.host import Host
from deviceplugin.host.trace import TracingHost, traced
from deviceplugin.model import CdiSpec, ContainerEdits, Device, Discovery
from deviceplugin.vendor import Finding, Grant, HealthReport
from deviceplugin.vendors.nvidia import edits
from deviceplugin.vendors.nvidia import edits as cdi
from deviceplugin.vendors.nvidia.devices import naming_for
from deviceplugin.vendors.nvidia.discovery import (
    by_address,
    healthy_devices,
    missing_devices,
    with_links,
)
from deviceplugin.vendors.nvidia.limits import limit_edits
from deviceplugin.vendors.nvidia.probes import Probes
from deviceplugin.vendors.nvidia.session import Session, Sight
from deviceplugin.vendors.nvidia.settings import MigSection, NvidiaSection, VgpuSection
from deviceplugin.vendors.nvidia.vgpu_guest import guest_edits
from deviceplugin.vendors.nvidia.vgpu_host import (
    HostVgpus,
    is_for_machines,
    machine_edits,
    node_faults,
)


class NvidiaVendor:
    """All NVIDIA GPUs of a node, as `session` tells of them."""

    name = "nvidia"

    def __init__(
        self,
        host: Host,
        settings: NvidiaSection,
        mig: MigSection,
        session: Session,
        vgpu: VgpuSection | None = None,
    ) -> None:
        self._host, self._settings, self._mig = host, settings, mig
        self._vgpu = vgpu or VgpuSection()
        self._trace: TracingHost | None = None
        self._vgpu_names: dict[int, str] = {}
        self._session = session
        self._probes = Probes()
        self._known: Mapping[str, tuple[Device, ...]] = {}
        self._driver_version: str | None = None
        self._driver_root = settings.driver_root

    def discover(self) -> Discovery:
        """All GPUs, MIG instances and vGPUs; a GPU that fails keeps its last devices, faulted."""
        self._trace = traced(self._host)
        try:
            sight = self._session.see()
        except UnavailableError:
            vgpus = self._vgpus(self._trace, ())
            if not vgpus:
                raise
            faults = tuple(node_faults(self._trace, vgpus))
            return Discovery(devices=vgpus, faults=faults)  # a host for virtual machines alone
        return self._discover(self._trace, sight)

    def unchanged(self) -> bool:
        """Whether NVML shows the same GPUs and instances, and all files that the last discovery
        read are as they were."""
        return self._trace is not None and self._session.unchanged() and self._trace.holds()

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        """The drop-in answer of the configured strategies, or what a virtual machine's pod gets."""
        if any(map(is_for_machines, devices)):
            return machine_edits(devices)
        parts = edits.container_edits(self._settings, self._dev_root, devices)
        return merge_edits([parts, guest_edits(devices)])

    def share_edits(self, grants: Sequence[Grant]) -> ContainerEdits:
        """The limits that rules name as `variables`."""
        return limit_edits(grants)

    def cdi_specs(self, devices: Sequence[Device]) -> Sequence[CdiSpec]:
        """One file for the class gpu; without devices where no strategy asks for CDI."""
        if not self._settings.uses_cdi or self._driver_version is None:
            return (CdiSpec(kind=edits.CDI_KIND, devices={}),)
        spec = cdi.cdi_spec(self._settings, self._dev_root, devices)
        driver = cdi.read_driver_files(
            self._host, self._driver_root, self._driver_version, self._settings.cdi_hook_path
        )
        return (replace(spec, common=merge_edits([spec.common, driver])),)

    def watch_health(self, devices: Sequence[Device], report: HealthReport, stop: Event) -> None:
        """Report what NVML tells of the GPUs and their instances."""
        self._session.watch(devices, report, stop)

    def probe_health(self, device: Device) -> Finding:
        """What NVML's counters and states say of one GPU."""
        return self._probes.judge(device, self._session.ask(device))

    def close(self) -> None:
        """Let the library go; the next discovery loads it again."""
        self._session.close()

    @property
    def _dev_root(self) -> str:
        return self._settings.dev_root or self._driver_root

    def _discover(self, host: Host, sight: Sight) -> Discovery:
        self._driver_root = sight.driver_root
        self._driver_version = sight.driver_version or self._driver_version
        seen = sight.look
        naming = naming_for(self._settings, self._mig, self._dev_root, seen.gpus, self._vgpu)
        devices, faults = healthy_devices(host, seen, naming)
        devices = self._with_vgpus(host, with_links(devices, sight.links))
        missing, losses = missing_devices(host, seen, self._known)
        self._known = by_address((*devices, *missing))
        return Discovery(
            devices=(*devices, *missing),
            faults=(*faults, *node_faults(host, devices), *losses),
            driver_version=self._driver_version,
            library_version=sight.library_version,
        )

    def _with_vgpus(self, host: Host, devices: tuple[Device, ...]) -> tuple[Device, ...]:
        """The devices and the vGPUs for virtual machines; a GPU that has such is not offered."""
        vgpus = self._vgpus(host, devices)
        cut = {vgpu.parent for vgpu in vgpus}
        return (*(replace(d, resource=None) if d.id in cut else d for d in devices), *vgpus)

    def _vgpus(self, host: Host, devices: Sequence[Device]) -> tuple[Device, ...]:
        if not self._vgpu.enabled:
            return ()
        return HostVgpus(host, self._vgpu_names).read(
            {d.pci_address: d.id for d in devices if d.pci_address and d.parent is None}
        )
