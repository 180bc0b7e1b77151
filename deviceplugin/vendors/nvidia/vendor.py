"""The NVIDIA vendor: finds GPUs through an NVML session, makes container edits."""

from collections.abc import Collection, Mapping, Sequence
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
from deviceplugin.vendors.nvidia.delivery import Delivery, cdi_faults
from deviceplugin.vendors.nvidia.devices import Found, Naming, naming_for
from deviceplugin.vendors.nvidia.discovery import Scan, healthy_devices
from deviceplugin.vendors.nvidia.driver_files import Driver, DriverFiles, read_driver_files
from deviceplugin.vendors.nvidia.extras import (
    Extra,
    extra_edits,
    extra_faults,
    extra_specs,
    read_extras,
)
from deviceplugin.vendors.nvidia.folders import read_dev_root
from deviceplugin.vendors.nvidia.limits import library_edits, limit_edits, slice_edits
from deviceplugin.vendors.nvidia.missing import (
    by_address,
    is_placeholder,
    missing_devices,
    unread_instances,
)
from deviceplugin.vendors.nvidia.platforms import (
    Platform,
    has_only_integrated,
    is_alone,
    is_platform,
    platform_found,
    read_platform,
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
        self._extras: Sequence[Extra] = ()
        self._platform: Platform | None = None

    def discover(self) -> Discovery:
        """All GPUs, MIG instances and vGPUs; a GPU that fails keeps its last devices, faulted."""
        self._trace = traced(self._host)
        platform = read_platform(self._trace, self._settings)
        if platform is not None and is_alone(platform, self._settings):
            return self._placed(self._trace, platform)
        try:
            snapshot = self._session.snapshot()
        except UnavailableError:
            if platform is not None:
                return self._placed(self._trace, platform)
            vgpus = self._vgpus(self._trace, {})
            if not vgpus:
                raise
            faults = tuple(node_faults(self._trace, vgpus))
            return Discovery(devices=vgpus, faults=faults)  # a host for virtual machines alone
        if platform is not None and has_only_integrated(self._trace, snapshot.scan):
            return self._placed(self._trace, platform)
        self._platform = None
        return self._discover(self._trace, snapshot)

    def unchanged(self) -> bool:
        """Whether NVML shows the same GPUs and instances, and all files that the last discovery
        read are as they were."""
        known = self._platform is not None or self._session.unchanged()
        return self._trace is not None and known and self._trace.holds()

    def agents(self) -> Sequence[Agent]:
        """NVIDIA's device API."""
        return (DEVICE_API,)

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        """The drop-in answer of the configured strategies, or what a virtual machine's pod gets."""
        if any(map(is_for_vm, devices)):
            return vm_edits(devices)
        extras = self._extras
        parts = edits.container_edits(self._settings, devices, [one.cdi_name for one in extras])
        beside = extra_edits(self._settings, extras)
        return merge_edits([parts, beside, self._delivery.variables, guest_edits(devices)])

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
        parts = [limit_edits(grants), slice_edits(library, grants)]
        if library is not None:
            parts.append(library_edits(library, grants))
        return merge_edits(parts)

    def cdi_specs(self, devices: Sequence[Device]) -> Sequence[CdiSpec]:
        """A file for the class gpu and one for each kind beside; without devices where no strategy
        asks for CDI."""
        others = extra_specs(self._extras, uses_cdi=self._driver_files is not None)
        if self._driver_files is None:
            return (CdiSpec(kind=edits.CDI_KIND, devices={}), *others)
        spec = edits.cdi_spec(self._settings, devices)
        common = merge_edits([spec.common, self._driver_files.edits])
        return (replace(spec, common=common), *others)

    def watch_health(self, devices: Sequence[Device], report: HealthReport, stop: Event) -> None:
        """Report NVML's events of the GPUs and their instances; elsewhere there are none."""
        if all(map(is_platform, devices)):
            stop.wait()
            return
        self._session.watch(devices, report, stop)

    def probe_health(self, device: Device) -> Finding:
        """What NVML's counters and states say of one GPU; nothing of what NVML has no UUID of."""
        if not _is_nvmls(device):
            return Finding()
        return self._probes.judge(device, self._session.ask(device))

    def sample(self, devices: Sequence[Device]) -> Sample:
        """What NVML measures of one GPU and its instances."""
        gpu, *parts = devices
        if not _is_nvmls(gpu):
            raise DiscoveryError(f"NVML does not show {gpu.id}")
        return self._session.sample([gpu, *filter(_is_nvmls, parts)])

    def processes(self, devices: Sequence[Device]) -> Sequence[DeviceProcess]:
        """The processes that NVML shows."""
        own = list(filter(_is_nvmls, devices))
        return self._session.processes(own) if own else ()

    def close(self) -> None:
        """Let the library go; the next discovery loads it again."""
        self._session.close()

    def _dev_root(self, host: Host) -> str:
        return read_dev_root(host, self._settings.dev_root, self._driver_root)

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

    def _placed(self, host: Host, platform: Platform) -> Discovery:
        """The one device of a place without NVML."""
        self._platform, self._known = platform, {}

        def look(settings: NvidiaSection) -> Found:
            return self._described(host, platform_found(platform, settings), settings)

        devices, faults = self._delivery.found(host, look)
        self._settings = self._delivery.in_force
        notes = (self._delivery.note,) if self._delivery.note else ()
        return Discovery(devices=devices, faults=faults, notes=notes)

    def _described(self, host: Host, found: Found, settings: NvidiaSection) -> Found:
        """With what the CDI files need of the driver and what is given beside GPUs. The attributes
        tell devices apart whose files are others: files are written again when devices change."""
        extras = self._extras = read_extras(host, settings, self._dev_root(host))
        told = {"extras": "; ".join(extra.told for extra in extras)} if extras else {}
        faults = list(found[1])
        files = self._driver_files = self._files(host) if settings.uses_cdi else None
        if files is not None:
            told["driver_files"] = f"{self._driver_version}: {len(files.edits.mounts)} mounts"
        devices = tuple(_with_attributes(device, told) for device in found[0])
        faults += cdi_faults(devices, files) if files is not None else ()
        offered = list(filter(edits.is_described, devices))
        return devices, (*faults, *extra_faults(settings, extras, offered))

    def _files(self, host: Host) -> DriverFiles:
        return self._platform.files if self._platform else read_driver_files(host, self._driver)

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


def _is_nvmls(device: Device) -> bool:
    """Whether NVML can be asked about a device."""
    return not (is_placeholder(device) or is_for_vm(device) or is_platform(device))


def _with_attributes(device: Device, more: Mapping[str, str]) -> Device:
    return replace(device, attributes=frozen({**device.attributes, **more})) if more else device
