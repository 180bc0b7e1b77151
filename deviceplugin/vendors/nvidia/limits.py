"""The limits that CUDA programs and their enforcers read: what rules may name as `variables`."""

from collections.abc import Sequence

from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.model import ContainerEdits, frozen
from deviceplugin.vendor import Grant

MIB = 1 << 20
MPS_MEMORY = "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"
MPS_THREADS = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
DEVICE_MEMORY = "CUDA_DEVICE_MEMORY_LIMIT"
DEVICE_SM = "CUDA_DEVICE_SM_LIMIT"
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
