"""Which pod a process runs in."""

from pathlib import Path

import pytest

from deviceplugin.host import Host
from deviceplugin.model import DeviceID, ResourceName
from deviceplugin.telemetry.model import Owner
from deviceplugin.telemetry.who import Finder, ProcessNames, parse_pod_uid
from deviceplugin.vendor import DeviceProcess
from tests.telemetry.values import write_files

UID = "0f6a1c2e-1111-2222-3333-444455556666"
STATIC = "0123456789abcdef0123456789abcdef"
CID = "c" * 64
GPU = DeviceID("GPU-0")
RESOURCE = ResourceName("nvidia.com/gpu")


@pytest.mark.parametrize(
    ("text", "uid"),
    [
        (f"0::/kubepods/burstable/pod{UID}/{CID}", UID),
        (
            f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-{CID}.scope",
            UID,
        ),
        (f"12:pids:/kubepods/pod{STATIC}/{CID}\n11:cpu:/\n", STATIC),
        (f"0::/../../pod{UID}/{CID}", UID),
        (f"0::/kubelet.slice/kubepods-pod{STATIC}.slice", STATIC),
        ("0::/system.slice/docker.service", None),
        ("0::/user.slice/pod-tools", None),
        ("", None),
    ],
    ids=["cgroupfs", "systemd", "v1 static", "namespace", "slice", "service", "user", "empty"],
)
def test_a_cgroup_names_the_pod(text: str, uid: str | None) -> None:
    assert parse_pod_uid(text) == uid


def process(root: Path, pid: int, cgroup: str, name: str = "python") -> None:
    """Files of a process, as psutil and we read them."""
    stat = f"{pid} ({name}) S 1 " + " ".join(["0"] * 17) + " 500 " + " ".join(["0"] * 30)
    write_files(
        root,
        {
            "/proc/stat": "cpu 0 0 0 0\nbtime 1700000000",
            f"/proc/{pid}/stat": stat,
            f"/proc/{pid}/cmdline": "",
            f"/proc/{pid}/status": f"Name:\t{name}",
            f"/proc/{pid}/cgroup": cgroup,
        },
    )


def used(pid: int) -> DeviceProcess:
    return DeviceProcess(pid=pid, device=GPU, memory_bytes=5)


def finder(root: Path) -> Finder:
    host = Host(root)
    return Finder(host, ProcessNames(host))


def held(*containers: str) -> dict[DeviceID, tuple[tuple[Owner, ResourceName], ...]]:
    owners = (Owner(namespace="ml", pod="train", container=name) for name in containers)
    return {GPU: tuple((owner, RESOURCE) for owner in owners)}


def test_a_process_is_its_pods_and_its_containers(tmp_path: Path) -> None:
    process(tmp_path, 70, f"0::/kubepods/pod{UID}/{CID}")
    for container in ("main", "sidecar"):
        (tmp_path / f"var/log/pods/ml_train_{UID}/{container}").mkdir(parents=True)
    (one,) = finder(tmp_path).uses([used(70)], held("main"))
    assert one.owner == Owner(namespace="ml", pod="train", container="main")
    assert (one.name, one.memory_bytes) == ("python", 5)


def test_of_two_containers_none_is_guessed(tmp_path: Path) -> None:
    process(tmp_path, 70, f"0::/kubepods/pod{UID}/{CID}")
    for container in ("main", "sidecar"):
        (tmp_path / f"var/log/pods/ml_train_{UID}/{container}").mkdir(parents=True)
    (one,) = finder(tmp_path).uses([used(70)], held("main", "sidecar"))
    assert one.owner == Owner(namespace="ml", pod="train", container="")


def test_another_pod_on_the_device_is_not_the_holder(tmp_path: Path) -> None:
    process(tmp_path, 70, f"0::/kubepods/pod{UID}/{CID}")
    (tmp_path / f"var/log/pods/monitoring_exporter_{UID}/agent").mkdir(parents=True)
    (one,) = finder(tmp_path).uses([used(70)], held("main"))
    assert one.owner == Owner(namespace="monitoring", pod="exporter", container="agent")


def test_without_names_the_pod_is_its_uid(tmp_path: Path) -> None:
    process(tmp_path, 70, f"0::/kubepods/pod{UID}/{CID}")
    (one,) = finder(tmp_path).uses([used(70)], held("main"))
    assert one.owner == Owner(namespace="", pod=UID, container="")


def test_a_process_of_no_pod_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    process(tmp_path, 71, "0::/system.slice/x.service", name="miner")
    found = finder(tmp_path)
    for _ in range(2):
        (one,) = found.uses([used(71)], {})
        assert (one.owner, one.name) == (None, "miner")


def test_a_process_that_has_ended_is_left_out(tmp_path: Path) -> None:
    process(tmp_path, 71, "0::/")
    assert finder(tmp_path).uses([used(999)], {}) == ()
