"""What Events say of pods that use more than they were granted; pure."""

from collections.abc import Iterator, Mapping

from deviceplugin.enforcement.watch import At, Use
from deviceplugin.kubernetes.story import Cause

EXCEEDED, EVICT, WITHIN = "SliceLimitExceeded", "EvictionRequested", "SliceLimitKept"
NAME = "deviceplugin.enforcement/slice_exceeded"
_MIB = 1 << 20


def causes_of(over: Mapping[At, Use], policy: str) -> Iterator[Cause]:
    """One for each container and device. The name has the container, so that two of one device are
    two causes; amounts are left out, so that the same excess is the same cause."""
    for (holder, device), use in over.items():
        pod = f"{holder.namespace}/{holder.pod}"
        asks = policy == "evict-request"
        action = f"evict the pod {pod}" if asks else f"end or limit the pod {pod}"
        yield Cause(
            name=f"{NAME} {pod}/{holder.container}",
            reason=f"the container {holder.container} uses more of its memory than the"
            f" {use.granted_bytes // _MIB} MiB that were granted",
            action=f"{action}, or grant it more",
            devices=(device,),
            addresses=("",),
            pods=((holder.namespace, holder.pod),),
            event=EVICT if asks else EXCEEDED,
            ended=WITHIN,
        )
