"""Nodes whose GPUs are cut, and pods that ask for their parts, as the API server has them."""

from deviceplugin.kubernetes.facts import ANNOTATION, GpuFacts, NodeFacts, PartFacts, written
from tests.scheduler.objects import Document, node, pod

ONE, THREE, SEVEN = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb", "nvidia.com/mig-7g.80gb"
NAMES = {"one": ONE, "three": THREE, "seven": SEVEN}


def told(
    name: str,
    *gpus: tuple[tuple[int, ...], tuple[int, ...]],
    cpu: str = "64",
    mib: int | None = None,
    isolation: str | None = None,
) -> Document:
    """A node whose GPUs have such parts of 1g, free and held, of so much memory and isolation, and
    one of 3g that is free."""
    starts = tuple(range(7))
    facts = NodeFacts(
        gpus=tuple(
            GpuFacts(
                id=f"GPU-{n}",
                offers={ONE: len(free) + len(held)},
                slices=8,
                parts={
                    ONE: PartFacts(1, starts, free, held, (), mib, isolation),
                    THREE: PartFacts(4, (0, 4), (4,)),
                },
            )
            for n, (free, held) in enumerate(gpus)
        )
    )
    document = node(name, 0, cpu=cpu)
    document["metadata"]["annotations"] = {ANNOTATION: written(facts)}
    document["status"]["allocatable"] |= {
        ONE: str(sum(len(free) + len(held) for free, held in gpus)),
        THREE: str(len(gpus)),
        "nvidia.com/gpu": "0",
    }
    return document


def asking(name: str, *, node: str = "", **parts: int) -> Document:
    wanted = pod(name, node=node)
    limits = wanted["spec"]["containers"][0]["resources"]["limits"]
    limits |= {NAMES[of]: str(count) for of, count in parts.items()}
    return wanted
