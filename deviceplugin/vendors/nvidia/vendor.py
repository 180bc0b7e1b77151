"""The NVIDIA vendor: finds GPUs through an NVML session, makes container edits."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from threading import Event

from msgspec.structs import replace

from deviceplugin.edits import merge_edits
from deviceplugin.errors import DiscoveryError, UnavailableError
from deviceplugin.host import Host
from deviceplugin.host.trace import TracingHost, traced
from deviceplugin.model import (
    CdiSpec,
    ContainerEdits,
    Device,
    DeviceID,
    Discovery,
    Fault,
    frozen,
)
from deviceplugin.vendor import (
    Agent,
    DeviceProcess,
    Finding,
    Grant,
    HealthReport,
    LabelView,
    Sample,
)
from deviceplugin.vendors.nvidia import edits
from deviceplugin.vendors.nvidia.agent import DEVICE_API
from deviceplugin.vendors.nvidia.delivery import Delivery
from deviceplugin.vendors.nvidia.devices import Found, Naming, naming_for
from deviceplugin.vendors.nvidia.discovery import Scan, healthy_devices
from deviceplugin.vendors.nvidia.driver_files import Driver, DriverFiles, read_driver_files
from deviceplugin.vendors.nvidia.faults import driver_missing, hook_refused
from deviceplugin.vendors.nvidia.limits import library_edits, limit_edits
from deviceplugin.vendors.nvidia.missing import (
    by_address,
    is_placeholder,
    missing_devices,
    unread_instances,
)
from deviceplugin.vendors.nvidia.probes import Probes
from deviceplugin.vendors.nvidia.session import Session, Snapshot
from deviceplugin.vendors.nvidia.settings import MigSection, NvidiaSection, VgpuSection
from deviceplugin.vendors.nvidia.vgpu_guest import guest_edits
from deviceplugin.vendors.nvidia.vgpu_host import (
    HostVgpus,
    is_for_vm,
    node_faults,
    vm_edits,
)

CONTROL = "/dev/nvidiactl"


class NvidiaVendor:
    """All NVIDIA GPUs of a node, as `session` reports them."""

    name = "nvidia"

    def __init__(
        self,
        host: Host,
        delivery: Delivery,
        mig: MigSection,
        session: Session,
        vgpu: VgpuSection | None = None,
    ) -> None:
        self._host, self._delivery, self._mig = host, delivery, mig
        self._settings = settings = delivery.in_force
        self._vgpu = vgpu or VgpuSection()
        self._trace: TracingHost | None = None
        self._vgpu_names: dict[int, str] = {}
        self._session = session
        self._probes = Probes()
        self._known: Mapping[str, tuple[Device, ...]] = {}
        self._driver_version: str | None = None
        self._cuda_version: int | None = None
        self._driver_root = settings.driver_root
        self._driver_files: DriverFiles | None = None

    def discover(self) -> Discovery:
        """All GPUs, MIG instances and vGPUs; a GPU that fails keeps its last devices, faulted."""
        self._trace = traced(self._host)
        try:
            snapshot = self._session.snapshot()
        except UnavailableError:
            vgpus = self._vgpus(self._trace, {})
            if not vgpus:
                raise
            faults = tuple(node_faults(self._trace, vgpus))
            return Discovery(devices=vgpus, faults=faults)  # a host for virtual machines alone
        return self._discover(self._trace, snapshot)

    def unchanged(self) -> bool:
        """Whether NVML shows the same GPUs and instances, and all files that the last discovery
        read are as they were."""
        return self._trace is not None and self._session.unchanged() and self._trace.holds()

    def agents(self) -> Sequence[Agent]:
        """NVIDIA's device API."""
        return (DEVICE_API,)

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        """The drop-in answer of the configured strategies, or what a virtual machine's pod gets."""
        if any(map(is_for_vm, devices)):
            return vm_edits(devices)
        parts = edits.container_edits(self._settings, devices)
        return merge_edits([parts, self._delivery.variables, guest_edits(devices)])

    def node_labels(self, view: LabelView) -> Mapping[str, str]:
        """Those of GPU feature discovery."""
        from deviceplugin.vendors.nvidia.labels import (  # noqa: PLC0415  # where labels are on
            NodeFacts,
            node_labels,
        )
        from deviceplugin.vendors.nvidia.node_facts import read_facts  # noqa: PLC0415

        facts = NodeFacts(
            mig_strategy=self._settings.mig_strategy,
            cuda=self._cuda_version,
            started=view.started,
        )
        return node_labels(view, read_facts(self._host, view.devices, facts))

    def share_edits(self, grants: Sequence[Grant]) -> ContainerEdits:
        """The limits that rules name as `variables`, and the library that keeps programs to
        them."""
        library = self._delivery.library
        if library is None:
            return limit_edits(grants)
        return merge_edits([limit_edits(grants), library_edits(library, grants)])

    def cdi_specs(self, devices: Sequence[Device]) -> Sequence[CdiSpec]:
        """One file for the class gpu; without devices where no strategy asks for CDI."""
        if self._driver_files is None:
            return (CdiSpec(kind=edits.CDI_KIND, devices={}),)
        spec = edits.cdi_spec(self._settings, devices)
        return (replace(spec, common=merge_edits([spec.common, self._driver_files.edits])),)

    def watch_health(self, devices: Sequence[Device], report: HealthReport, stop: Event) -> None:
        """Report NVML's events of the GPUs and their instances."""
        self._session.watch(devices, report, stop)

    def probe_health(self, device: Device) -> Finding:
        """What NVML's counters and states say of one GPU; nothing of what NVML has no UUID of."""
        if is_placeholder(device) or is_for_vm(device):
            return Finding()
        return self._probes.judge(device, self._session.ask(device))

    def sample(self, devices: Sequence[Device]) -> Sample:
        """What NVML measures of one GPU and its instances."""
        gpu, *parts = devices
        if is_placeholder(gpu) or is_for_vm(gpu):
            raise DiscoveryError(f"NVML does not show {gpu.id}")
        own = [part for part in parts if not (is_placeholder(part) or is_for_vm(part))]
        return self._session.sample([gpu, *own])

    def processes(self, devices: Sequence[Device]) -> Sequence[DeviceProcess]:
        """The processes that NVML shows."""
        own = [one for one in devices if not (is_placeholder(one) or is_for_vm(one))]
        return self._session.processes(own)

    def close(self) -> None:
        """Let the library go; the next discovery loads it again."""
        self._session.close()

    def _dev_root(self, host: Host) -> str:
        """Where the device nodes are: a driver root without any is one of files alone, as COS has
        it, beside the host's own /dev."""
        if self._settings.dev_root is not None:
            return self._settings.dev_root
        own = f"{self._driver_root.rstrip('/')}{CONTROL}"
        return "/" if not host.exists(own) and host.exists(CONTROL) else self._driver_root

    def _discover(self, host: Host, snapshot: Snapshot) -> Discovery:
        self._driver_root = snapshot.driver_root
        self._driver_version = snapshot.driver_version or self._driver_version
        self._cuda_version = snapshot.cuda_version
        scan = snapshot.scan
        vgpus = self._vgpus(host, {gpu.pci_address: DeviceID(gpu.uuid) for gpu in scan.gpus})
        divided = {vgpu.parent for vgpu in vgpus}

        def look(settings: NvidiaSection) -> Found:
            naming = self._naming(host, scan, divided, settings)
            found = healthy_devices(host, scan, naming, snapshot.links)
            return self._described(host, found, settings)

        gpus, faults = self._delivery.found(host, look)
        self._settings = self._delivery.in_force  # at once: answers are made on another thread
        unread, failures = unread_instances(scan, self._known)
        missing, losses = missing_devices(host, scan, self._known)
        devices = (*gpus, *unread, *vgpus)
        self._known = by_address((*devices, *missing))
        return Discovery(
            devices=(*devices, *missing),
            faults=(*faults, *failures, *node_faults(host, devices), *losses),
            driver_version=self._driver_version,
            library_version=snapshot.library_version,
            notes=(self._delivery.note,) if self._delivery.note else (),
        )

    def _described(self, host: Host, found: Found, settings: NvidiaSection) -> Found:
        """With what the CDI file needs of the driver. The attribute tells devices apart whose file
        has other mounts: the file is written again when devices change."""
        if not settings.uses_cdi:
            self._driver_files = None
            return found
        files = self._driver_files = read_driver_files(host, self._driver)
        told = f"{self._driver_version}: {len(files.edits.mounts)} mounts"
        devices = tuple(
            replace(d, attributes=frozen({**d.attributes, "driver_files": told})) for d in found[0]
        )
        return devices, (*found[1], *_cdi_faults(devices, files))

    @property
    def _driver(self) -> Driver:
        settings = self._settings
        return Driver(
            root=self._driver_root,
            version=self._driver_version,
            library_dirs=settings.driver_library_dirs,
            hook=settings.cdi_hook_path,
        )

    def _naming(
        self,
        host: Host,
        scan: Scan,
        divided: Collection[DeviceID | None],
        settings: NvidiaSection,
    ) -> Naming:
        """The naming of what was found; a GPU that has vGPUs for virtual machines is not whole."""
        naming = naming_for(settings, self._mig, self._dev_root(host), scan.gpus, self._vgpu)
        addresses = {gpu.pci_address for gpu in scan.gpus if gpu.uuid in divided}
        return replace(naming, divided=frozenset(addresses))

    def _vgpus(self, host: Host, gpus: Mapping[str, DeviceID]) -> tuple[Device, ...]:
        return HostVgpus(host, self._vgpu_names).read(gpus) if self._vgpu.enabled else ()


def _cdi_faults(devices: Sequence[Device], files: DriverFiles) -> Iterator[Fault]:
    for device in filter(edits.is_described, devices):
        if files.problem is not None:
            yield driver_missing(device, files.problem)
        if files.hook_problem is not None:
            yield hook_refused(device, files.hook_problem)
