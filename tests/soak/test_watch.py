"""The soak sees what it is there to see."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from deviceplugin.testing.devicemanager import Holder, Holding
from deviceplugin.testing.pods import Pod
from tests.fakes.nvml import gpu_uuid
from tests.rig import GPU, Rig
from tests.soak.node import AMD, AMD_PARTS, MEMORY, MI300X, SHARED, SoakNode
from tests.soak.watch import Sample, Watch, counters, given_twice, in_two_forms

FOUR = gpu_uuid(4)


@pytest.fixture
def node(rig: Rig) -> SoakNode:
    return SoakNode(rig)


def hold(rig: Rig, *held: tuple[str, str]) -> None:
    """Each id in a pod of its own."""
    for number, (resource, device_id) in enumerate(held):
        pod = Pod(name=f"p{number}", containers={})
        rig.stub.admissions.pods[pod.key] = pod
        holder = Holder(pod=pod.key, container="main", resource=resource)
        holding = Holding(devices=((device_id, None),), answer=None)  # type: ignore[arg-type]
        rig.stub.manager.held[holder] = holding


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ([(GPU, FOUR)], []),
        ([(SHARED, f"{FOUR}::0"), (SHARED, f"{FOUR}::1")], []),
        ([(AMD, AMD_PARTS[0]), (AMD, AMD_PARTS[1])], []),
        ([(GPU, FOUR), (MEMORY, f"{FOUR}-10gi-m0")], [f"{FOUR} is held as {[GPU, MEMORY]}"]),
        ([(SHARED, f"{FOUR}::0"), (MEMORY, f"{FOUR}-10gi-m0")], [f"{FOUR} is held as"]),
        ([(AMD, AMD_PARTS[0]), (AMD, MI300X)], []),
    ],
    ids=[
        "a GPU",
        "two replicas",
        "two partitions",
        "a GPU and a slice of it",
        "a replica and a slice",
        "a partition and the whole of another layout",
    ],
)
def test_what_two_pods_may_not_both_have_is_told(
    rig: Rig, node: SoakNode, held: list[tuple[str, str]], told: list[str]
) -> None:
    hold(rig, *held)
    found = in_two_forms(rig.stub, node)
    assert len(found) == len(told)
    assert all(text.startswith(start) for text, start in zip(found, told, strict=True))


def test_an_id_that_the_kubelet_gives_twice_is_counted(rig: Rig, node: SoakNode) -> None:
    hold(rig, (GPU, FOUR), (AMD, AMD_PARTS[0]), (GPU, FOUR))
    assert given_twice(rig.stub) == {(GPU, FOUR)}
    watch = watch_of(rig, node, rig.root / "log")
    watch.look()
    watch.look()
    assert (watch.twice, watch.broken) == (1, [])


def watch_of(rig: Rig, node: SoakNode, log: Path) -> Watch:
    watch = Watch(rig.stub, node)
    log.write_text("")
    watch.follow(log)
    return watch


def test_a_failure_in_the_log_is_told(rig: Rig, node: SoakNode) -> None:
    log = rig.root / "log"
    watch = watch_of(rig, node, log)
    log.write_text('{"event": "allocated"}\n{"event": "task_failed", "task": "x"}\n{"event": "hal')
    watch.look()
    assert watch.broken == ['log: {"event": "task_failed", "task": "x"}']
    assert watch.events["allocated"] == 1


def test_a_counter_that_falls_is_told(rig: Rig, node: SoakNode) -> None:
    log = rig.root / "log"
    watch = watch_of(rig, node, log)
    for value in (1, 2, 2):
        watch.scraped(log, 0, f"x_total {value}")
    assert watch.broken == []
    watch.scraped(log, 0, "x_total 1")
    assert watch.broken == ["counter x_total fell from 2.0 to 1.0"]


def test_only_what_may_not_fall_is_a_counter() -> None:
    text = '# TYPE a_total counter\na_total{x="y z"} 1.0\nb_bucket{le="1"} 2\nc 3\nd_sum 4'
    assert counters(text) == {'a_total{x="y z"}': 1, 'b_bucket{le="1"}': 2, "d_sum": 4}


@pytest.mark.parametrize(
    ("mib", "fds", "told"), [(1.0, 4, False), (40.0, 4, True), (1.0, 40, True)]
)
def test_what_grows_is_told(rig: Rig, node: SoakNode, mib: float, fds: int, *, told: bool) -> None:
    watch = watch_of(rig, node, rig.root / "log")
    for second in range(90):
        grown = second / 90
        sample = Sample(rss_mib=60 + mib * grown, fds=int(40 + fds * grown), threads=20)
        watch.note(rig.root / "log", sample)
    watch.is_bounded()
    assert bool(watch.broken) is told


def test_more_registrations_than_reasons_are_told(rig: Rig, node: SoakNode) -> None:
    watch = watch_of(rig, node, rig.root / "log")
    rig.stub.generation = 1
    watch.added[GPU] = 1
    entry = SimpleNamespace(resource=GPU)
    rig.stub.log.accepted += [entry, entry]  # type: ignore[list-item]
    watch.registrations_are_bounded()
    assert watch.broken == []
    rig.stub.log.accepted.append(entry)  # type: ignore[arg-type]
    watch.registrations_are_bounded()
    assert watch.broken == [f"{GPU} was registered 3 times for 2 reasons"]
