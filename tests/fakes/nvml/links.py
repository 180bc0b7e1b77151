"""NVLink layouts: every GPU to the switches, or chosen pairs wired directly."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from tests.fakes.nvml.model import LINK_TO_SWITCH, Gpu, NvLink

_SWITCHES = 6


def with_nvswitch(gpus: Iterable[Gpu], links: int = 12) -> tuple[Gpu, ...]:
    """All to all: each GPU's links end at the switches, never at another GPU."""
    wired = tuple(
        NvLink(
            link=link,
            remote=f"00000000:{0xC4 + link % _SWITCHES:02X}:00.0",
            remote_type=LINK_TO_SWITCH,
        )
        for link in range(links)
    )
    return tuple(replace(gpu, nvlinks=wired) for gpu in gpus)


def with_nvlink_pairs(
    gpus: Iterable[Gpu], pairs: Sequence[tuple[int, int]], links: int = 4
) -> tuple[Gpu, ...]:
    """Each pair of GPU indices joined by `links` direct links more."""
    by_index = {gpu.index: gpu for gpu in gpus}
    for first, second in pairs:
        a, b = by_index[first], by_index[second]
        by_index[first] = _wire(a, b, links)
        by_index[second] = _wire(b, a, links)
    return tuple(by_index.values())


def _wire(gpu: Gpu, peer: Gpu, links: int) -> Gpu:
    first = len(gpu.nvlinks)
    more = tuple(NvLink(link=first + n, remote=peer.bus_id) for n in range(links))
    return replace(gpu, nvlinks=gpu.nvlinks + more)
