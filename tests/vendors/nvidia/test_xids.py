"""The table of XIDs, code by code, and whom an event is about."""

import threading

import pytest
from msgspec import field

from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID, FaultClass, frozen
from deviceplugin.vendors.nvidia.events import NvmlEvent, faults_of, watch_events
from deviceplugin.vendors.nvidia.library import Nvml, open_nvml
from deviceplugin.vendors.nvidia.xids import XIDS, xid_of
from tests.vendors.nvidia.health_machine import Machine, Report

# By hand from NVIDIA's catalogue (docs.nvidia.com/deploy/xid-errors), immediate resolution; a code
# that is in no row is only reported.
BY_CLASS: dict[FaultClass, set[int]] = {
    FaultClass.APP: {
        *(8, 11, 13, 25, 31, 32, 39, 40, 41, 60, 68, 69, 70, 71, 72, 75, 76, 77, 80, 82, 83, 84),
        *(85, 86, 88, 89, 94, 96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 126, 127, 128, 129),
        *(130, 131, 132, 133, 134, 135, 137, 139),
    },
    FaultClass.INFO: {
        *(14, 37, 38, 43, 44, 45, 66, 67, 106, 107, 108, 141, 152, 153, 154, 162, 163, 171, 172),
    },
    FaultClass.WARN: {
        *(63, 78, 92, 93, 121, 144, 145, 146, 147, 148, 149, 150, 157, 159, 160, 161, 164, 165),
        *(166, 168, 170),
    },
    FaultClass.RESET: {
        *(46, 48, 62, 64, 74, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158, 169),
    },
    FaultClass.REBOOT: {79, 151, 167, 173},
    FaultClass.HARDWARE: {54, 142},
}
CLASSES = {code: kind for kind, codes in BY_CLASS.items() for code in codes}


@pytest.mark.parametrize("code", range(1, 200))
def test_each_xid_has_its_class(code: int) -> None:
    assert (code in XIDS) == (code in CLASSES)
    assert xid_of(code).kind is CLASSES.get(code, FaultClass.WARN)
    assert xid_of(code).code == code


@pytest.mark.parametrize(
    ("codes", "word"),
    [
        ((11, 13, 31, 69, 80, 137), "CUDA code"),
        ((63, 160, 161), "next drain"),
        ((64,), "may need replacing"),
        ((74, 136, 155), "cables"),
        (range(144, 151), "kernel log for the unit"),
        ((54,), "power cables"),
        ((79, 167, 173), "reboot the node"),
        ((151,), "virtual machine or the node"),
        ((45, 108, 171, 172), "follow the error"),
        ((154,), "recovery action decides"),
        ((46, 48, 62, 95, 109, 140, 143, 156, 158, 169), "reset the GPU"),
        ((110, 119, 120), "update the driver"),
        ((14, 43, 44, 106, 107, 141, 152, 153, 162, 163), "none by itself"),
        ((164, 165), "replace"),
    ],
    ids=str,
)
def test_each_xid_says_what_to_do(codes: tuple[int, ...] | range, word: str) -> None:
    assert {code for code in codes if word not in xid_of(code).action} == set()


def test_only_an_xid_that_ends_with_a_reboot_advises_one() -> None:
    advised = {code for code, xid in XIDS.items() if "reboot" in xid.action}
    assert advised <= {code for code, kind in CLASSES.items() if kind is FaultClass.REBOOT}


def part(gpu: str, gi: int, ci: int = 0) -> Device:
    return Device(
        id=DeviceID(f"MIG-{gpu}-{gi}-{ci}"),
        vendor="nvidia",
        parent=DeviceID(gpu),
        attributes=frozen({"gpu_instance": str(gi), "compute_instance": str(ci)}),
    )


def test_an_instance_is_looked_for_on_the_gpu_of_the_event_alone() -> None:
    gpus = [Device(id=DeviceID(name), vendor="nvidia") for name in ("GPU-0", "GPU-1")]
    parts = [part(gpu, gi) for gpu in ("GPU-0", "GPU-1") for gi in (7, 8)]
    event = NvmlEvent(gpu=DeviceID("GPU-1"), type=8, data=95, gpu_instance=7)
    assert [f.device for f in faults_of(event, [*gpus, *parts])] == ["MIG-GPU-1-7-0"]
    unknown = NvmlEvent(gpu=DeviceID("GPU-1"), type=8, data=95, gpu_instance=9)
    assert [f.device for f in faults_of(unknown, [*gpus, *parts])] == ["GPU-1"]


def test_compute_instances_of_one_gpu_instance_are_told_apart() -> None:
    parts = [part("GPU-0", 7, 0), part("GPU-0", 7, 1)]
    one = NvmlEvent(gpu=DeviceID("GPU-0"), type=8, data=13, gpu_instance=7, compute_instance=1)
    both = NvmlEvent(gpu=DeviceID("GPU-0"), type=8, data=13, gpu_instance=7)
    assert [f.device for f in faults_of(one, parts)] == ["MIG-GPU-0-7-1"]
    assert [f.device for f in faults_of(both, parts)] == ["MIG-GPU-0-7-0", "MIG-GPU-0-7-1"]


class Recorder:
    """pynvml, with the names of all functions that are called."""

    def __init__(self, api: object) -> None:
        self._api = api
        self.called: list[str] = []

    def __getattr__(self, name: str) -> object:
        self.called.append(name)
        return getattr(self._api, name)


class Ending(Report):
    """Ends the watch when it asks for a look the second time: after its registration it failed."""

    stop: threading.Event = field(default_factory=threading.Event)

    def rediscover(self) -> None:
        super().rediscover()
        if self.looks.qsize() == 2:
            self.stop.set()


@pytest.mark.parametrize("fails", [False, True], ids=["stopped", "failed"])
def test_the_event_set_is_freed_however_the_watch_ends(machine: Machine, *, fails: bool) -> None:
    devices = machine.devices()
    machine.vendor.close()
    nvml = open_nvml(Host(machine.root), "/")
    recorder = Recorder(nvml._api)  # what the library is asked
    stop = threading.Event()
    if fails:
        machine.double.fail("nvmlEventSetWait*", 999)
    else:
        stop.set()
    report = Ending(stop=stop)
    watch_events(Nvml(recorder, "/"), devices, report, stop)
    nvml.close()
    assert recorder.called.count("nvmlEventSetCreate") == 1
    assert recorder.called.count("nvmlEventSetFree") == 1
    assert report.looks.qsize() == (2 if fails else 1)


def test_without_a_gpu_that_can_be_watched_the_watch_asks_for_nothing(machine: Machine) -> None:
    devices = machine.devices()
    machine.vendor.close()
    machine.double.fail("nvmlDeviceRegisterEvents", 999)
    nvml, report, stop = open_nvml(Host(machine.root), "/"), Report(), threading.Event()
    stop.set()
    watch_events(nvml, devices, report, stop)
    nvml.close()
    assert report.looks.empty()
