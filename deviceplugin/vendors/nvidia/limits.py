"""The limits that CUDA programs and their enforcers read: what rules may name as `variables`."""

from collections.abc import Sequence

from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.model import ContainerEdits, Device, Mount, Share, frozen
from deviceplugin.vendor import ComputeLimit, Grant, Sections

MIB = 1 << 20
MPS_MEMORY = "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"
MPS_THREADS = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
DEVICE_MEMORY = "CUDA_DEVICE_MEMORY_LIMIT"
DEVICE_SM = "CUDA_DEVICE_SM_LIMIT"
SHARED_CACHE = "CUDA_DEVICE_MEMORY_SHARED_CACHE"
CACHE_FILE = "/tmp/cudevshr.cache"  # noqa: S108  # of the container
LIBRARY, PRELOAD = "/usr/local/vgpu/libvgpu.so", "/etc/ld.so.preload"
MPS = "mps"
VARIABLES = (MPS_MEMORY, MPS_THREADS, DEVICE_MEMORY, DEVICE_SM)


def limit_edits(grants: Sequence[Grant]) -> ContainerEdits:
    """The variables that the rules of these shares name, as their enforcers read them.

    Raises AllocationError for a limit of zero: enforcers read it as no limit.
    """
    env: dict[str, str] = {}
    named = dict.fromkeys(name for grant in grants for name in grant.share.variables)
    for variable in (name for name in named if name in VARIABLES):
        env |= _limits(variable, grants)
    return ContainerEdits(env=frozen(env))


def compute_limit(sections: Sections) -> ComputeLimit:
    """What holds shares of compute by this configuration."""
    library = limiting_library(sections)

    def why_unlimited(_: Device, share: Share) -> str:
        return "" if share.method == MPS or library else "neither MPS nor HAMi-core is used"

    return why_unlimited


def limiting_library(sections: Sections) -> str | None:
    """The administrator's HAMi-core, by the section `enforcement` of the daemon."""
    nvidia = getattr(sections.get("enforcement"), "nvidia", None)
    return getattr(nvidia, "library", None)


def slice_edits(library: str | None, grants: Sequence[Grant]) -> ContainerEdits:
    """The variables by which MPS and HAMi-core keep programs to their slices of the memory, and to
    the compute that comes with them; none for other shares."""
    env: dict[str, str] = {}
    if any(grant.share.method == MPS and grant.share.unit_bytes is not None for grant in grants):
        env |= _limits(MPS_MEMORY, grants)
    computes = [grant for grant in grants if grant.share.compute_percent is not None]
    if any(grant.share.method == MPS for grant in computes):
        env |= _limits(MPS_THREADS, computes)
    if library is not None and computes:
        env |= _limits(DEVICE_SM, computes)
    return ContainerEdits(env=frozen(env))


def library_edits(library: str, grants: Sequence[Grant]) -> ContainerEdits:
    """What HAMi-core needs in a container with slices of memory: `library` is the host's path of
    libvgpu.so, beside which its ld.so.preload lies. Nothing for other shares.

    The shared region is in the container's own /tmp, so no folder of the host is writable. A limit
    of zero is refused: the library reads it as no limit.
    """
    slices = [grant for grant in grants if grant.share.unit_bytes is not None]
    if not slices:
        return ContainerEdits()
    env = {SHARED_CACHE: CACHE_FILE} | _limits(DEVICE_MEMORY, slices)
    folder = library.rpartition("/")[0]
    return ContainerEdits(
        env=frozen(env),
        mounts=(
            Mount(path=LIBRARY, host_path=library),
            Mount(path=PRELOAD, host_path=f"{folder}/ld.so.preload"),
        ),
    )


def _limits(variable: str, grants: Sequence[Grant]) -> dict[str, str]:
    """The variable with its values (MPS: CUDA's manual; the CUDA_DEVICE_ ones: HAMi-core)."""
    if variable in (MPS_THREADS, DEVICE_SM):
        return {variable: str(min(_limit(variable, grant, grant.percent) for grant in grants))}
    sizes = [
        _limit(variable, g, None if g.memory_bytes is None else g.memory_bytes // MIB)
        for g in grants
    ]
    if variable == MPS_MEMORY:
        return {variable: ",".join(f"{i}={size}M" for i, size in enumerate(sizes))}
    return {f"{DEVICE_MEMORY}_{i}": f"{size}m" for i, size in enumerate(sizes)}


def _limit(variable: str, grant: Grant, value: int | None) -> int:
    if not value:
        known = "the GPU's memory is unknown" if value is None else "it would be 0, which is none"
        text = f"{grant.device.resource}: no limit can be set by {variable}: {known}"
        raise AllocationError(Refusal.LIMIT, f"{text}; ask for more, or drop the variable")
    return value
