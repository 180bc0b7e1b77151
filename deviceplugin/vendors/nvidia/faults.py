"""Faults of a GPU that answers: what of it is unknown, and why CUDA would not start on it; pure."""

from collections.abc import Iterator, Mapping

from deviceplugin.faults import VALUE_UNREADABLE
from deviceplugin.model import Device, Fault, FaultClass
from deviceplugin.vendors.nvidia.codes import meaning_of
from deviceplugin.vendors.nvidia.gpus import NvidiaGpu

LAYOUT, DISCOVERY = "nvidia.layout", "nvidia.discovery"
FABRIC, COMPUTE, CDI = "nvidia.fabric", "nvidia.compute", "nvidia.cdi"
# nvml.h, nvmlGpuFabricState_t: what stands between a GPU and its fabric.
_FABRIC_STATES: Mapping[int, str] = {1: "not started", 2: "in progress"}
_COMPLETED = 3
# nvml.h, nvmlComputeMode_t.
_EXCLUSIVE, _PROHIBITED = frozenset({1, 3}), 2


def state_faults(gpu: NvidiaGpu, whole: Device) -> Iterator[Fault]:
    """The faults of one GPU that NVML answers for; those of use matter only where it is offered
    whole: MIG instances have no NVLink."""
    if gpu.unknown:
        yield _unknown(gpu, whole)
    if whole.resource is None:
        return
    yield from _fabric_faults(gpu, whole)
    yield from _compute_faults(gpu, whole)


def _unknown(gpu: NvidiaGpu, whole: Device) -> Fault:
    what = ", ".join(f"{fact} ({error})" for fact, error in gpu.unknown)
    actions = dict.fromkeys(meaning_of(error).action for _, error in gpu.unknown)
    return VALUE_UNREADABLE.fault(whole.id, DISCOVERY, what, action="; or: ".join(actions))


def _fabric_faults(gpu: NvidiaGpu, whole: Device) -> Iterator[Fault]:
    """Behind NVSwitches CUDA starts only when the GPU is registered with the fabric."""
    state, status = (gpu.fabric.state, gpu.fabric.status) if gpu.fabric else (0, 0)
    if state in _FABRIC_STATES:
        yield Fault(
            device=whole.id,
            source=FABRIC,
            code="fabric_not_ready",
            reason=f"the NVLink fabric is not ready ({_FABRIC_STATES[state]}): CUDA cannot start",
            action="start nvidia-fabricmanager on the host, in the driver's version; see its log",
            kind=FaultClass.SETUP,
        )
    if state == _COMPLETED and status:
        yield Fault(
            device=whole.id,
            source=FABRIC,
            code="fabric_failed",
            reason=f"the GPU could not join the NVLink fabric (NVML status {status})",
            action="see the log of nvidia-fabricmanager and `nvidia-smi -q` (Fabric) on the host",
            kind=FaultClass.SETUP,
        )


def _compute_faults(gpu: NvidiaGpu, whole: Device) -> Iterator[Fault]:
    if gpu.compute_mode == _PROHIBITED:
        yield Fault(
            device=whole.id,
            source=COMPUTE,
            code="compute_prohibited",
            reason="the compute mode is Prohibited: no program can use CUDA on this GPU",
            action=f"nvidia-smi -i {whole.id} -c DEFAULT",
            kind=FaultClass.SETUP,
        )
    if gpu.compute_mode in _EXCLUSIVE:
        yield Fault(
            device=whole.id,
            source=COMPUTE,
            code="compute_exclusive",
            reason="the compute mode is exclusive: one process at a time, without MPS",
            action=f"if GPUs are shared or pods run several processes: nvidia-smi -i {whole.id}"
            " -c DEFAULT",
            kind=FaultClass.INFO,
        )


def driver_missing(device: Device, problem: str) -> Fault:
    """A CDI file that would give a container no CUDA."""
    return Fault(
        device=device.id,
        source=CDI,
        code="driver_files_missing",
        reason=problem,
        action="install the driver's CUDA library on the host, mount its folder and what links lead"
        " to into the daemon's container, or name the folder in nvidia.driver_library_dirs",
        kind=FaultClass.SETUP,
    )


def hook_refused(device: Device, problem: str) -> Fault:
    """Libraries are where linkers look by themselves, as without a hook."""
    return Fault(
        device=device.id,
        source=CDI,
        code="hook_not_used",
        reason=problem,
        action="mount its folder into the daemon's container and let it, and what leads to it, be"
        ' writable by root alone, or set nvidia.cdi_hook_path to ""',
        kind=FaultClass.WARN,
    )
