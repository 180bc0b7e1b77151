"""Who is said to use a GPU unallocated, and who is not."""

import pytest

from deviceplugin.bypass.judge import Bypass, Held, Opener, is_allowed, judged, own_nodes
from deviceplugin.model import Device, DeviceID, ResourceName

TRAIN, OTHER = ("team", "train"), ("team", "other")
CONTROL = ("/dev/nvidiactl", "/dev/nvidia-uvm")


def device(name: str, *nodes: str, parent: str | None = None) -> Device:
    return Device(
        id=DeviceID(name),
        vendor="nvidia",
        resource=ResourceName("nvidia.com/gpu"),
        nodes=(*CONTROL, *nodes),
        parent=DeviceID(parent) if parent else None,
    )


GPUS = (
    device("gpu-0", "/dev/nvidia0"),
    device("gpu-1", "/dev/nvidia1"),
    device("mig-1a", "/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap12", parent="gpu-1"),
    device("mig-1b", "/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap21", parent="gpu-1"),
)
NODES = own_nodes(GPUS)


def held(**pods: tuple[str, str]) -> Held:
    by_device = {DeviceID(name.replace("_", "-")): frozenset({pod}) for name, pod in pods.items()}
    return Held(by_device=by_device)


def opener(*nodes: str, pod: tuple[str, str] | None = TRAIN, container: str = "c1") -> Opener:
    return Opener(pid=7, nodes=frozenset(nodes), pod=pod, container=container)


def test_nodes_that_gpus_share_tell_nothing() -> None:
    assert NODES.keys().isdisjoint(CONTROL)
    assert NODES["/dev/nvidia1"] == {"gpu-1", "mig-1a", "mig-1b"}


@pytest.mark.parametrize(
    ("one", "who", "expected"),
    [
        (opener("/dev/nvidia0"), held(gpu_0=TRAIN), []),
        (opener("/dev/nvidia0"), held(gpu_0=OTHER), ["gpu-0"]),
        (opener("/dev/nvidia0"), held(), ["gpu-0"]),
        (opener("/dev/nvidia0", "/dev/nvidia1"), held(gpu_0=TRAIN), ["gpu-1"]),
        (opener("/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap12"), held(mig_1a=TRAIN), []),
        (
            opener("/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap21"),
            held(mig_1a=TRAIN),
            ["mig-1b"],
        ),
    ],
    ids=["its-own", "of-another", "of-nobody", "one-more", "its-part", "another-part"],
)
def test_a_pod_may_open_what_it_holds(one: Opener, who: Held, expected: list[str]) -> None:
    found = judged([one], NODES, who, ())
    assert [bypass.device for bypass in found] == expected
    assert all(pids == (7,) for pids in found.values())


def test_a_container_outside_of_pods_holds_nothing() -> None:
    found = judged([opener("/dev/nvidia0", pod=None)], NODES, held(gpu_0=TRAIN), ("*",))
    assert list(found) == [Bypass(DeviceID("gpu-0"), "", "", "c1")]


@pytest.mark.parametrize("perhaps", [None, frozenset({TRAIN})], ids=["any-pod", "this-pod"])
def test_who_may_hold_something_is_not_judged(perhaps: frozenset[tuple[str, str]] | None) -> None:
    assert judged([opener("/dev/nvidia0")], NODES, Held(by_device={}, perhaps=perhaps), ()) == {}


@pytest.mark.parametrize(
    ("pod", "allowed"),
    [
        (("kube-system", "any"), True),
        (("monitoring", "dcgm-exporter-x7k"), True),
        (("monitoring", "prometheus-0"), False),
        (("team-a", "notebook"), True),
        (("kube-system-not", "any"), False),
    ],
)
def test_namespaces_and_pods_may_be_allowed(pod: tuple[str, str], *, allowed: bool) -> None:
    patterns = ("kube-system", "*/*dcgm-exporter-*", "team-*/notebook")
    assert is_allowed(pod, patterns) is allowed
    assert bool(judged([opener("/dev/nvidia0", pod=pod)], NODES, held(), patterns)) is not allowed
