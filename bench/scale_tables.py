"""The figures of `bench.scale` as Markdown tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]


def report(figures: Figures) -> str:
    """All tables with what each is of, ready to be pasted into a document."""
    sizes, vendors = figures["sizes"], figures["vendors"]
    costs = ([_count(size["devices"]), *_cost(size)] for size in sizes)
    parts = (
        "**Lists.** Medians of several starts and kubelets.\n",
        _table(
            ("devices", "they are", "list", "start to list", "listed again (worst)"), _lists(sizes)
        ),
        "**Allocate**, each time of other ids, none of which is given back.\n",
        _table(("devices", "1 id: p50", "p99", "8 ids: p50", "p99"), _allocates(sizes)),
        "**Preferred allocation** from the full list; the request carries all ids.\n",
        _table(("devices", "request", *PREFERRED), _prefers(sizes)),
        "**A fault to many streams**: median (worst) until the last one has its list.\n",
        _table(("devices", *STREAMS), _fan_outs(figures["fan_out"])),
        "**Memory, idle CPU and a scrape**, by devices and by vendors.\n",
        _table(("devices", *COSTS), costs),
        _table(("vendors with hardware", *COSTS), ([v["name"], *_cost(v)] for v in vendors)),
        f"Of eight A100, whose ids are longer, 60,000 slices are refused: {figures['refused']}.\n",
    )
    return "\n".join(parts)


PREFERRED = ("1 of all: p50", "p99", "8 of all: p50", "p99", "8, of which 2 given: p50", "p99")
STREAMS = ("1 stream", "10 streams", "50 streams", "8 resources of one GPU")
COSTS = ("resident", "proportional", "idle CPU", "/metrics", "scrape p50", "p99")


def _lists(sizes: Iterable[Figures]) -> Iterable[Sequence[str]]:
    for size in sizes:
        yield (
            _count(size["devices"]),
            size["name"],
            _bytes(size["list_bytes"]),
            f"{size['start_s']:.2f} s",
            f"{size['again_ms']:.1f} ms ({size['again_worst_ms']:.1f})",
        )


def _allocates(sizes: Iterable[Figures]) -> Iterable[Sequence[str]]:
    for size in sizes:
        calls = size["calls"]
        yield _count(size["devices"]), *_call(calls["allocate_1"]), *_call(calls["allocate_8"])


def _prefers(sizes: Iterable[Figures]) -> Iterable[Sequence[str]]:
    for size in sizes:
        kinds = [size["calls"][name] for name in ("prefer_1", "prefer_8", "prefer_8_must_2")]
        request = _bytes(kinds[0]["request_bytes"])
        yield _count(size["devices"]), request, *(text for kind in kinds for text in _call(kind))


def _call(figures: Figures) -> Iterable[str]:
    for name in ("p50", "p99"):
        ours, bare = figures[f"{name}_ms"], figures[f"echo_{name}_ms"]
        yield f"{ours:.2f} ms, {ours / bare:.1f} ×"


def _fan_outs(rows: Iterable[Figures]) -> Iterable[Sequence[str]]:
    for row in rows:
        kinds = [row.get(name) for name in ("1", "10", "50", "resources_8")]
        yield (
            _count(row["devices"]),
            *(f"{k['median_ms']:.0f} ms ({k['worst_ms']:.0f})" if k else "" for k in kinds),
        )


def _cost(figures: Figures) -> Sequence[str]:
    return (
        f"{figures['rss_mib']:.1f} MiB",
        f"{figures['pss_mib']:.1f} MiB",
        f"{figures['idle_percent']:.2f} %",
        _bytes(figures["scrape_bytes"]),
        f"{figures['scrape_p50_ms']:.1f} ms",
        f"{figures['scrape_p99_ms']:.1f} ms",
    )


def _count(number: int) -> str:
    return f"{number:,}"


def _bytes(number: int) -> str:
    if number < 10_000:
        return f"{number:,} B"
    return f"{number / 1024:,.0f} KiB" if number < 1 << 20 else f"{number / (1 << 20):.2f} MiB"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    first, *others = [f"| {' | '.join(line)} |\n" for line in (head, *rows)]
    return "".join((first, f"|{'---|' * len(head)}\n", *others))
