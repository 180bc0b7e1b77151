"""What holds a share, for each vendor: the table of docs/sharing.md."""

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.model import Device, DeviceID, Isolation, Share, frozen
from deviceplugin.resources.build import NOT_ENFORCED, Enforced, Keeping, isolation_of
from deviceplugin.resources.rules import Offering
from deviceplugin.resources.section import MemorySlices, Method, Offer
from deviceplugin.vendor import ComputeLimit
from deviceplugin.vendors.amd import compute as amd
from deviceplugin.vendors.nvidia import limits as nvidia
from deviceplugin.vendors.nvidia.mps import Mps

_GPU = Device(id=DeviceID("gpu"), vendor="any", memory_bytes=1 << 34)
_SLICES = Offer(memory=MemorySlices())


class Mechanism(Struct, frozen=True, kw_only=True):
    """One row; the level is what the planner makes of such a share."""

    vendors: str
    name: str
    level: str
    holds: str
    escapes: str


def _level(enforced: Enforced) -> str:
    offering = Offering(name=_GPU.resource or "", device=_GPU, offer=_SLICES)  # type: ignore[arg-type]  # any name
    methods: dict[str, Method] = {}
    return f"`{isolation_of(offering, Keeping(methods, enforced))}`"


def _compute(limit: ComputeLimit, method: str | None) -> str:
    """The level of a part of the compute, of a device whose units are known."""
    device = replace(_GPU, attributes=frozen({"compute_units": "104"}))
    share = Share(count=4, unit_bytes=1 << 32, method=method, compute_percent=25)
    return "`none`" if limit(device, share) else "`cooperative`"


HELD = _level(Enforced(devices=frozenset({_GPU.id})))
NOT_HELD = _level(NOT_ENFORCED)
MPS = f"`{Mps().isolation(Share(count=4, method='mps'))}`"
HARDWARE = f"`{Isolation.HARDWARE}`"

MECHANISMS = (
    Mechanism(
        vendors="all",
        name="hardware partitions: MIG, compute partitions, virtual functions",
        level=HARDWARE,
        holds="memory and compute",
        escapes="nothing",
    ),
    Mechanism(
        vendors="AMD, Intel",
        name="the kernel's limit, set by the runtime ([`enforcement.memory: nri`](enforcement.md))",
        level=HELD,
        holds="memory of slices, from the first instruction on",
        escapes="privileged containers, root on the node; system memory that a GPU uses",
    ),
    Mechanism(
        vendors="AMD, Intel",
        name="the same limit, written after the start (`enforcement.memory: cgroup`)",
        level=NOT_HELD,
        holds="memory of slices, after a few seconds",
        escapes="what a program takes before that; else as above",
    ),
    Mechanism(
        vendors="NVIDIA",
        name="[MPS](#mps)",
        level=MPS,
        holds="an equal part of memory and compute for each client of replicas",
        escapes="a container that sets `CUDA_MPS_PIPE_DIRECTORY` itself",
    ),
    Mechanism(
        vendors="NVIDIA",
        name="MPS for slices ([`enforcement.nvidia.mps`](enforcement.md#mps), or `sharing: mps`)",
        level=MPS,
        holds="each client to `max_per_container` slices; to less where it keeps its own variable",
        escapes="as above",
    ),
    Mechanism(
        vendors="NVIDIA",
        name="[HAMi-core](enforcement.md#hami-core), brought by the administrator",
        level=f"{NOT_HELD}, cooperative",
        holds="memory that a program takes through the CUDA library",
        escapes="static programs, musl, own variables, nested containers, shells started by sshd",
    ),
    Mechanism(
        vendors="AMD",
        name="compute units ([`compute`](#compute-of-slices) beside `memory`)",
        level=_compute(amd.compute_limit({}), None),
        holds="units that no other container of the GPU is told",
        escapes="programs that set `HSA_CU_MASK` themselves",
    ),
    Mechanism(
        vendors="NVIDIA",
        name="thread percentage of MPS, or of HAMi-core (`compute` beside `memory`)",
        level=_compute(nvidia.compute_limit({}), "mps"),
        holds="programs of MPS, or of the CUDA library, to their part of the compute",
        escapes="as MPS and HAMi-core above",
    ),
    Mechanism(
        vendors="Intel, and NVIDIA with neither",
        name="`compute` beside `memory`",
        level=_compute(nvidia.compute_limit({}), None),
        holds="nothing; the scheduler counts it",
        escapes="every program",
    ),
    Mechanism(
        vendors="Intel",
        name="`compute` of [virtual functions](partitions.md#time-of-virtual-functions)",
        level=HARDWARE,
        holds="each function's part of the GPU's time: the hardware scheduler holds it",
        escapes="work on the physical function, which no pod gets meanwhile",
    ),
    Mechanism(
        vendors="AMD",
        name="scheduling quanta of virtual functions, which the administrator sets",
        level=HARDWARE,
        holds="a part of the GPU's time for each function, beside memory of its own",
        escapes="nothing",
    ),
    Mechanism(
        vendors="all",
        name="variables (`GPU_SHARE_*`, those of `variables`)",
        level=NOT_HELD,
        holds="programs that read them",
        escapes="every other program",
    ),
    Mechanism(
        vendors="all",
        name="[watching](enforcement.md#who-uses-more) (`enforcement.excess.watch`)",
        level=NOT_HELD,
        holds="nothing; it says who uses more than granted",
        escapes="everything, and is reported",
    ),
)


def mechanisms_table() -> str:
    """As Markdown."""
    rows = [("vendor", "mechanism", "level", "what it holds", "what escapes it"), ("---",) * 5]
    rows += [(m.vendors, m.name, m.level, m.holds, m.escapes) for m in MECHANISMS]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"
