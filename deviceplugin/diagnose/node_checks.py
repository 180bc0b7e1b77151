"""Checks of the node: drivers, bus, CDI files, kubelet, processes, runtime, clock; pure."""

from collections.abc import Iterator, Mapping

from deviceplugin.diagnose.bypass_checks import UNALLOCATED
from deviceplugin.diagnose.model import (
    CdiFile,
    GpuFacts,
    GpuProcess,
    Judged,
    NodeCheck,
    PciGpu,
    Snapshot,
    failed,
    passed,
    skipped,
    warned,
)
from deviceplugin.model import VendorStatus

NODE = "node"
Answers = Iterator[tuple[str, Judged]]
# The kernel drivers under which a GPU serves containers.
_DRIVERS: Mapping[str, frozenset[str]] = {
    "nvidia": frozenset({"nvidia"}),
    "amd": frozenset({"amdgpu"}),
    "intel": frozenset({"i915", "xe"}),
}


def _drivers(snapshot: Snapshot) -> Answers:
    # GPUs of machines need no driver of their vendor.
    on_bus = {gpu.vendor for gpu in snapshot.node.bus if "vfio" not in (gpu.driver or "")}
    for status in snapshot.node.vendors:
        module = snapshot.node.module_versions.get(status.name)
        yield status.name, _driver(status, module, there=status.name in on_bus)


def _driver(status: VendorStatus, module: str | None, *, there: bool) -> Judged:
    if status.error is not None:
        return failed(status.error) if there else skipped(f"no GPU of it: {status.error}")
    library = status.library_version
    if module and library and not _belongs(library, module):
        return failed(f"kernel module {module}, library {library}")
    versions = [f"driver {status.driver_version}"] if status.driver_version else []
    versions += [f"library {library}"] if library else []
    return passed(", ".join(versions) or "it serves; it has no version of its own")


def _belongs(library: str, module: str) -> bool:
    """NVML's version is the driver's behind that of CUDA: 13.580.95.05."""
    return library == module or library.endswith(f".{module}")


def _count(snapshot: Snapshot) -> Answers:
    if not snapshot.node.bus:
        yield NODE, skipped("no GPU is on the bus, or the bus cannot be read")
    known = {address for gpu in snapshot.gpus for address in _served(gpu)}
    asked = {vendor.name for vendor in snapshot.node.vendors}
    for vendor in sorted({gpu.vendor for gpu in snapshot.node.bus}):
        gpus = [gpu for gpu in snapshot.node.bus if gpu.vendor == vendor]
        if vendor in asked:
            yield vendor, _counted(gpus, known)
        else:
            yield vendor, skipped(f"{len(gpus)} on the bus; --vendors leaves them out")


def _served(gpu: GpuFacts) -> Iterator[str | None]:
    """The functions behind a GPU and its partitions; one that has no device node is lost: of it
    the address alone is known."""
    for device in (gpu.device, *gpu.parts):
        if device.nodes:
            yield from (device.pci_address, *device.functions)


def _counted(bus: list[PciGpu], known: set[str | None]) -> Judged:
    served = [g for g in bus if g.driver in _DRIVERS.get(g.vendor, ()) and not _divided(g)]
    lost = [gpu.address for gpu in served if gpu.address not in known]
    if lost:
        return failed(f"{len(bus)} on the bus, the driver does not serve {', '.join(lost)}")
    bare = [gpu.address for gpu in bus if gpu.driver is None and not gpu.virtual]
    if bare:
        return warned(f"{len(bus)} on the bus, no driver took {', '.join(bare)}")
    return passed(f"{len(bus)} on the bus, {len(served)} of them for the driver")


def _divided(gpu: PciGpu) -> bool:
    """Its virtual functions are offered, not itself."""
    return gpu.functions is not None and gpu.functions[0] > 0


def _functions(snapshot: Snapshot) -> Answers:
    for gpu in snapshot.node.bus:
        if gpu.functions is not None:
            wanted, there = gpu.functions
            text = f"{there} of {wanted} virtual functions"
            yield gpu.address, passed(text) if wanted == there else failed(text)


def _cdi(snapshot: Snapshot) -> Answers:
    if not snapshot.node.cdi_files:
        yield NODE, skipped("there is no CDI file")
    for file in snapshot.node.cdi_files:
        yield file.path, _cdi_file(file)


def _cdi_file(file: CdiFile) -> Judged:
    if file.problem:
        return failed(file.problem, "remove the file, or let its owner write it again")
    if file.missing:
        more = f" and {len(file.missing) - 5} more" if len(file.missing) > 5 else ""
        return failed(f"not there: {', '.join(file.missing[:5])}{more}")
    return passed(f"{file.named} paths, all there")


def _kubelet(snapshot: Snapshot) -> Answers:
    listens = snapshot.node.kubelet_listens
    if listens is None:
        yield NODE, skipped("there is no kubelet directory")
    elif listens:
        yield NODE, passed("it accepts connections")
    else:
        yield NODE, failed("nobody accepts connections on its socket")


def _registered(snapshot: Snapshot) -> Answers:
    node = snapshot.node
    if node.listed is None:
        yield NODE, skipped(f"no daemon to ask: {node.daemon_problem}")
        return
    if node.registered is None:
        yield NODE, skipped(f"the kubelet does not tell: {node.kubelet_problem}")
        return
    for name, count in sorted(node.listed.items()):
        there = node.registered.get(name, 0)
        text = f"{there} of {count} healthy ids"
        yield name, passed(text) if there == count else failed(text)


def _processes(snapshot: Snapshot) -> Answers:
    processes = snapshot.node.processes
    if processes is None:
        yield NODE, skipped("no vendor tells of processes")
        return
    for gpu in snapshot.gpus:
        own = {gpu.device.id, *(part.id for part in gpu.parts)}
        yield gpu.device.id, _used([p for p in processes if p.device in own])


def _used(processes: list[GpuProcess]) -> Judged:
    strangers = [str(p.pid) for p in processes if p.pod is not None and p.holds is False]
    if strangers:
        text = f"of pods that do not hold it: {', '.join(strangers)}"
        return failed(text, "find how the pod gets the GPU: hostPath, privileged, or its variables")
    orphans = [str(p.pid) for p in processes if p.pod is None and p.seen]
    if orphans:
        return warned(f"of no pod: {', '.join(orphans)}")
    unseen = sum(not p.seen for p in processes)
    if unseen:
        return skipped(f"{unseen} processes that have ended, or that /proc does not show here")
    return passed(f"{len(processes)} processes")


def _runtime(snapshot: Snapshot) -> Answers:
    found = snapshot.node.runtime
    if found is None:
        yield NODE, skipped("not looked at")
    elif found.honoured:
        yield NODE, passed(found.reason)
    elif found.needed:
        yield NODE, failed(found.reason, found.remedy)
    else:
        yield NODE, skipped(f"{found.reason}; the settings do not need it")


def _clock(snapshot: Snapshot) -> Answers:
    known = snapshot.node.clock_synchronised
    if known is None:
        yield NODE, skipped("the kernel does not tell")
    else:
        yield NODE, passed("synchronised") if known else warned("not synchronised")


def _dumps(snapshot: Snapshot) -> Answers:
    dumps = snapshot.node.dumps
    yield NODE, warned(f"of {', '.join(dumps)}") if dumps else passed("none")


def _persistence(snapshot: Snapshot) -> Answers:
    """By the mode, which the daemon of that name sets and people can; where no driver tells it, by
    the daemon's socket."""
    devices = [gpu.device for gpu in snapshot.gpus if gpu.device.vendor == "nvidia"]
    modes = {device.id: device.attributes.get("persistence") for device in devices}
    off = sorted(device for device, mode in modes.items() if mode == "disabled")
    runs = snapshot.node.persistenced
    if runs is None:
        yield NODE, skipped("no NVIDIA GPU is served")
    elif off:
        yield NODE, warned(f"it is off for {', '.join(off)}")
    elif "enabled" in modes.values():
        yield NODE, passed("it is on")
    else:
        yield NODE, passed("its socket is there") if runs else warned("its socket is not there")


NODE_CHECKS = (
    NodeCheck(
        name="driver",
        expected="it answers, and kernel module and library are of one version",
        source="/sys/module, the vendor's library",
        action="load the driver; after an update of the driver reboot the node",
        judge=_drivers,
    ),
    NodeCheck(
        name="gpu_count",
        expected="every GPU on the bus has a driver, and the driver serves it",
        source="/sys/bus/pci/devices, discovery of the vendor",
        action="see the kernel log for the address; reboot, then check seating and power",
        judge=_count,
    ),
    NodeCheck(
        name="virtual_functions",
        expected="as many as are set",
        source="sriov_numvfs, virtfn* of the function",
        action="see the kernel log of the function; set sriov_numvfs again",
        judge=_functions,
    ),
    NodeCheck(
        name="cdi_files",
        expected="every file and node that a CDI file names exists",
        source="the CDI directory",
        action="restart the daemon; a file of another program: let that write it again",
        judge=_cdi,
    ),
    NodeCheck(
        name="kubelet",
        expected="it listens",
        source="device-plugins/kubelet.sock of the kubelet's directory",
        action="start the kubelet; check --kubelet-dir and the mount of the directory",
        judge=_kubelet,
    ),
    NodeCheck(
        name="registration",
        expected="the kubelet has the healthy ids that the daemon lists",
        source="GetAllocatableResources of PodResources, the running daemon",
        action="see the log of daemon and kubelet for the resource",
        judge=_registered,
    ),
    NodeCheck(
        name="processes",
        expected="each is of a pod that holds the GPU",
        source="the vendor's list of processes, /proc/PID/cgroup, PodResources",
        action="end them, or run them in a pod that requests the GPU",
        judge=_processes,
    ),
    NodeCheck(
        name="container_runtime",
        expected="it honours CDI names, where the settings use them",
        source="program and configuration of containerd or CRI-O",
        action="see `deviceplugin runtime`",
        judge=_runtime,
    ),
    NodeCheck(
        name="host_clock",
        expected="synchronised",
        source="adjtimex(2)",
        action="start chronyd or systemd-timesyncd on the node",
        judge=_clock,
    ),
    NodeCheck(
        name="crash_dumps",
        expected="none",
        source="/sys/class/devcoredump",
        action="keep the dump's `data` for the vendor; write to it to delete the dump",
        judge=_dumps,
    ),
    NodeCheck(
        name="persistence",
        expected="persistence mode is on, or nvidia-persistenced runs, where there are NVIDIA GPUs",
        source="the driver; /run/nvidia-persistenced/socket",
        action="start nvidia-persistenced on the host, or `nvidia-smi -pm 1`",
        judge=_persistence,
    ),
    UNALLOCATED,
)
