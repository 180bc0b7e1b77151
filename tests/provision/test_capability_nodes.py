"""The nodes below /dev/nvidia-caps of instances: made where nobody has, gone with the instance."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deviceplugin.errors import LibraryError
from deviceplugin.host import Host
from deviceplugin.host.device_nodes import DeviceNodes, Node
from deviceplugin.vendor.partitions import Step, Verb
from deviceplugin.vendors.nvidia.capabilities import parse_capability
from deviceplugin.vendors.nvidia.partitioning import NvidiaPartitioner
from deviceplugin.vendors.nvidia.settings import NvidiaSection
from tests.fakes.nvml import NvmlDouble, Scenario, ci_minor, gi_minor, h200
from tests.provision.plain_nodes import PlainNodes

MAJOR = 237
Hands = Callable[..., NvidiaPartitioner]


@pytest.fixture
def double(tmp_path: Path) -> NvmlDouble:
    devices = tmp_path / "proc/devices"
    devices.parent.mkdir()
    devices.write_text(f"Character devices:\n{MAJOR} nvidia-caps\n\nBlock devices:\n  8 sd\n")
    gpu = h200(0, mig_current=1, mig_pending=1)
    return NvmlDouble(tmp_path, scenario=Scenario(gpus=(gpu,)))


@pytest.fixture
def hands(tmp_path: Path, double: NvmlDouble) -> Iterator[Hands]:
    made: list[NvidiaPartitioner] = []

    def hands(
        nodes: PlainNodes, *, modify: bool = True, dev_root: str | None = None
    ) -> NvidiaPartitioner:
        double.show_capabilities(tmp_path / "proc", modify=modify)
        one = NvidiaPartitioner(Host(tmp_path), NvidiaSection(dev_root=dev_root), nodes)
        made.append(one)
        return one

    yield hands
    for one in made:
        one.close()


def step(hands: NvidiaPartitioner, verb: Verb = Verb.CREATE, start: int = 3) -> Step:
    (gpu,) = hands.read()
    return Step(gpu=gpu.id, verb=verb, name="1g.18gb", number=start)


def caps(*instances: int) -> list[str]:
    """The names of both nodes of each GPU instance."""
    minors = [minor for gi in instances for minor in (gi_minor(0, gi), ci_minor(0, gi, 0))]
    return sorted(f"nvidia-cap{minor}" for minor in minors)


FIRST = 7  # as the double numbers instances of one slice


def test_they_come_and_go_with_the_instance(tmp_path: Path, hands: Hands) -> None:
    nodes = PlainNodes(tmp_path)
    gpu = hands(nodes)
    for start in (3, 6):
        gpu.apply(step(gpu, start=start))
        assert gpu.is_done(step(gpu, start=start))
    assert nodes.names() == caps(FIRST, FIRST + 1)
    path = f"/dev/nvidia-caps/nvidia-cap{gi_minor(0, FIRST)}"
    assert nodes.read(path) == Node(major=MAJOR, minor=gi_minor(0, FIRST), mode=0o444)
    gpu.apply(step(gpu, Verb.DESTROY))
    assert nodes.names() == caps(FIRST + 1)


def test_an_instance_without_them_is_not_done_yet(tmp_path: Path, hands: Hands) -> None:
    nodes = PlainNodes(tmp_path)
    gpu = hands(nodes)
    gpu.apply(step(gpu))
    for name in nodes.names():
        (tmp_path / "dev/nvidia-caps" / name).unlink()
    assert not gpu.is_done(step(gpu))
    gpu.apply(step(gpu))
    assert nodes.names() == caps(FIRST)


def test_where_the_driver_keeps_them_nothing_is_made(tmp_path: Path, hands: Hands) -> None:
    nodes = PlainNodes(tmp_path)
    gpu = hands(nodes, modify=False)
    gpu.apply(step(gpu))
    assert gpu.is_done(step(gpu))
    assert nodes.names() == []


def test_what_others_put_there_stays(tmp_path: Path, hands: Hands) -> None:
    nodes = PlainNodes(tmp_path)
    gpu = hands(nodes)
    there = tmp_path / f"dev/nvidia-caps/nvidia-cap{gi_minor(0, FIRST)}"
    there.parent.mkdir(parents=True)
    there.write_text("no device")
    gpu.apply(step(gpu))
    assert gpu.is_done(step(gpu))
    gpu.apply(step(gpu, Verb.DESTROY))
    assert there.read_text() == "no device"
    assert nodes.names() == [there.name]


def test_a_node_of_a_driver_before_is_made_again(tmp_path: Path, hands: Hands) -> None:
    nodes = PlainNodes(tmp_path)
    gpu = hands(nodes)
    minor = gi_minor(0, FIRST)
    path, wanted = f"/dev/nvidia-caps/nvidia-cap{minor}", Node(major=MAJOR, minor=minor, mode=0o444)
    nodes.make(path, Node(major=MAJOR - 1, minor=minor, mode=0o444))
    gpu.apply(step(gpu))
    assert nodes.read(path) == wanted


def test_without_the_right_to_make_them_the_instance_is_made(tmp_path: Path, hands: Hands) -> None:
    nodes = PlainNodes(tmp_path, forbidden=True)
    gpu = hands(nodes)
    gpu.apply(step(gpu))
    assert gpu.is_done(step(gpu))
    assert nodes.names() == []
    gpu.apply(step(gpu, Verb.DESTROY))
    assert gpu.is_done(step(gpu, Verb.DESTROY))


def test_an_instance_that_stays_keeps_them(
    tmp_path: Path, double: NvmlDouble, hands: Hands
) -> None:
    nodes = PlainNodes(tmp_path)
    gpu = hands(nodes)
    double.fail("nvmlComputeInstanceDestroy", 19)
    gpu.apply(step(gpu))
    with pytest.raises(LibraryError):
        gpu.apply(step(gpu, Verb.DESTROY))
    assert nodes.names() == caps(FIRST)


def test_they_are_made_below_the_root_of_the_devices(tmp_path: Path, hands: Hands) -> None:
    gpu = hands(PlainNodes(tmp_path), dev_root="/run/nvidia/driver")
    gpu.apply(step(gpu))
    below = tmp_path / "run/nvidia/driver/dev/nvidia-caps"
    assert sorted(one.name for one in below.iterdir()) == caps(FIRST)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "DeviceFileMinor: 30\nDeviceFileMode: 292",
        "DeviceFileMinor: 30\nDeviceFileMode: 292\nDeviceFileModify: 0",
        "DeviceFileMinor: 30\nDeviceFileMode: 4096\nDeviceFileModify: 1",
        "DeviceFileMinor: 99999999\nDeviceFileMode: 292\nDeviceFileModify: 1",
        "DeviceFileMinor: x\nDeviceFileMode: 292\nDeviceFileModify: 1",
    ],
)
def test_a_file_that_does_not_ask_for_a_node_makes_none(text: str) -> None:
    assert parse_capability(text, MAJOR) is None


def test_a_real_node_is_made_read_and_removed(tmp_path: Path) -> None:
    nodes, path = DeviceNodes(Host(tmp_path)), "/dev/nvidia-caps/nvidia-cap30"
    (tmp_path / "dev").mkdir()
    wanted = Node(major=1, minor=3, mode=0o444)
    try:
        nodes.make(path, wanted)
    except PermissionError:
        pytest.skip("device nodes cannot be made here")
    assert nodes.read(path) == wanted
    with pytest.raises(FileExistsError):
        nodes.make(path, wanted)
    nodes.remove(path)
    assert nodes.read(path) is None
    (tmp_path / path.lstrip("/")).symlink_to("/dev/null")
    assert nodes.read(path) is None
