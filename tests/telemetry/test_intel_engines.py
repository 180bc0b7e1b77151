"""How busy engines are, on trees of a PMU and on counters that a test moves; and real counters."""

import errno
from pathlib import Path

import pytest

from deviceplugin.host import Host
from deviceplugin.host.perf import SOURCES, Counter, Pmu, open_counter, parse_format, read_pmu
from deviceplugin.vendors.intel.telemetry import Meter
from tests.telemetry.test_intel_values import BDF, GPU, Clock, D
from tests.telemetry.values import values_of, write_files

XE = f"{SOURCES}/xe_0000_04_00.0"
I915 = f"{SOURCES}/i915_0000_04_00.0"
FORMATS = {
    "event": "config:0-11",
    "engine_instance": "config:12-19",
    "engine_class": "config:20-27",
    "function": "config:44-59",
    "gt": "config:60-63",
}


class Counting(Counter):
    """A counter that a test moves."""

    def __init__(self, counts: dict[int, int], config: int) -> None:
        self._counts, self._config = counts, config

    def read(self) -> int:
        if self._config not in self._counts:
            raise OSError(errno.ENODEV, "gone")
        return self._counts[self._config]

    def __del__(self) -> None:
        pass


class Kernel:
    """Has these counters and no others, or allows none."""

    def __init__(self, counts: dict[int, int], *, allows: bool = True) -> None:
        self.counts, self.allows = counts, allows
        self.asked: list[tuple[int, int, int]] = []

    def __call__(self, pmu: Pmu, config: int) -> Counter:
        self.asked.append((pmu.kind, pmu.cpu, config))
        if not self.allows:
            raise PermissionError(errno.EACCES, "not allowed")
        if config not in self.counts:
            raise OSError(errno.ENOENT, "no such engine")
        return Counting(self.counts, config)


def write_i915(root: Path) -> None:
    events = {"rcs0-busy": 0x0, "bcs0-busy": 0x1000, "vcs0-busy": 0x2000, "vcs1-busy": 0x2010}
    events |= {"vecs0-busy": 0x3000, "ccs0-busy": 0x4000, "interrupts": 0x100002}
    files: dict[str, object] = {f"{I915}/events/{n}": f"config={c:#x}" for n, c in events.items()}
    files |= {f"{I915}/events/rcs0-busy.unit": "ns", f"{D}/vendor": "0x8086"}
    write_files(root, {**files, f"{I915}/type": 31, f"{I915}/cpumask": "2"})


def write_xe(root: Path) -> None:
    files: dict[str, object] = {f"{XE}/format/{n}": text for n, text in FORMATS.items()}
    files |= {f"{XE}/events/engine-active-ticks": "event=0x02"}
    files |= {f"{XE}/events/engine-total-ticks": "event=0x03", f"{XE}/type": 32}
    write_files(root, {**files, f"{D}/tile0/gt0/id": "", f"{D}/tile0/gt1/id": ""})


def engines(meter: Meter) -> dict[str, float]:
    found = values_of(meter.sample([GPU]), GPU.id)
    return {name: value for name, value in found.items() if "engine=" in name}


SHOWN = {
    "utilization_ratio engine=compute": 0.5,
    "utilization_ratio engine=copy": 0.2,
    "utilization_ratio engine=video": 0.3,
    "utilization_ratio engine=video_enhance": 0.4,
}


def test_i915_counts_the_nanoseconds_of_each_engine(tmp_path: Path) -> None:
    write_i915(tmp_path)
    kernel = Kernel({0: 7, 0x1000: 0, 0x2000: 0, 0x2010: 0, 0x3000: 0, 0x4000: 0})
    clock = Clock()
    meter = Meter(Host(tmp_path), clock, kernel)
    assert engines(meter) == {}
    clock.now += 10
    grown = {0: 1, 0x1000: 2, 0x2000: 1, 0x2010: 3, 0x3000: 4, 0x4000: 5}
    kernel.counts |= {config: seconds * 1_000_000_000 for config, seconds in grown.items()}
    assert engines(meter) == pytest.approx(SHOWN)
    assert set(kernel.asked) == {(31, 2, config) for config in grown}


def test_xe_counts_the_ticks_of_each_engine_and_all_ticks(tmp_path: Path) -> None:
    write_xe(tmp_path)
    # Class, instance and GT, and what part of 1000 ticks each is busy.
    busy = {(0, 0, 0): 100, (1, 8, 0): 200, (2, 0, 1): 50, (2, 2, 1): 300, (3, 0, 1): 400}
    busy |= {(4, 0, 0): 500}
    active = {c: (gt << 60) + (kind << 20) + (n << 12) + 2 for c in busy for kind, n, gt in [c]}
    kernel = Kernel(dict.fromkeys(active.values(), 5))
    kernel.counts |= {config + 1: 100 for config in active.values()}
    meter = Meter(Host(tmp_path), Clock(), kernel)
    assert engines(meter) == {}
    kernel.counts |= {active[engine]: 5 + ticks for engine, ticks in busy.items()}
    kernel.counts |= {config + 1: 1100 for config in active.values()}
    assert engines(meter) == pytest.approx(SHOWN)
    assert {(kind, cpu) for kind, cpu, _ in kernel.asked} == {(32, 0)}


def test_what_the_kernel_does_not_allow_is_asked_for_once(tmp_path: Path) -> None:
    write_xe(tmp_path)
    kernel = Kernel({}, allows=False)
    meter = Meter(Host(tmp_path), Clock(), kernel)
    assert [engines(meter), engines(meter)] == [{}, {}]
    assert len(kernel.asked) == 1


def test_counters_are_opened_again_when_the_driver_was_reloaded(tmp_path: Path) -> None:
    write_i915(tmp_path)
    counts = dict.fromkeys((0, 0x1000, 0x2000, 0x2010, 0x3000, 0x4000), 9)
    kernel, clock = Kernel(dict(counts)), Clock()
    meter = Meter(Host(tmp_path), clock, kernel)
    engines(meter)
    kernel.counts.clear()
    clock.now += 1
    assert engines(meter) == {}
    kernel.counts |= counts
    engines(meter)
    clock.now += 1
    assert engines(meter) == dict.fromkeys(SHOWN, 0.0)
    assert len(kernel.asked) == 2 * len(counts)


def test_a_gpu_without_a_pmu_has_no_engines(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{D}/vendor": "0x8086"})
    kernel = Kernel({})
    assert engines(Meter(Host(tmp_path), Clock(), kernel)) == {}
    assert kernel.asked == []


@pytest.mark.parametrize(
    ("text", "place"),
    [("config:0-11", (0, 12)), ("config:63", (63, 1)), ("config1:0-3", None), ("config:9-3", None)],
)
def test_a_format_is_a_place_in_config(text: str, place: tuple[int, int] | None) -> None:
    assert parse_format(text) == place


def test_a_term_that_the_pmu_does_not_know_is_no_event(tmp_path: Path) -> None:
    write_xe(tmp_path)
    pmu = read_pmu(Host(tmp_path), f"xe_{BDF.replace(':', '_')}")
    assert pmu is not None
    assert pmu.config("engine-active-ticks", gt=1, engine_class=4) == (1 << 60) + (4 << 20) + 2
    assert pmu.config("engine-active-ticks", tile=0) is None
    assert pmu.config("engine-active-ticks", gt=16) is None
    assert pmu.config("gt-c6-residency") is None


def test_a_real_counter_counts() -> None:
    """The clock of a CPU, which every kernel has; where it may not be counted there is nothing to
    see."""
    software = Pmu(kind=1, cpu=0, events={}, formats={})
    try:
        counter = open_counter(software, 0)
    except OSError as error:
        pytest.skip(f"perf_event_open: {error}")
    first = counter.read()
    while counter.read() == first:
        pass
    assert counter.read() > first


def test_an_event_that_no_kernel_has_is_an_error() -> None:
    with pytest.raises(OSError, match=r"\S"):
        open_counter(Pmu(kind=(1 << 32) - 1, cpu=0, events={}, formats={}), 0)
