"""Each vendor's discovery on this machine, recorded; as a program, so that a driver's library that
crashes or hangs costs the capture alone.

`python -m deviceplugin.testing.hardware.record --host-root DIR` prints one JSON document.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from deviceplugin.config.schema import decode_sections
from deviceplugin.discovery.registry import load_vendors
from deviceplugin.errors import UnavailableError, VendorError
from deviceplugin.host import Host
from deviceplugin.model import Discovery
from deviceplugin.testing.hardware.nvml_record import NvmlRecorder
from deviceplugin.testing.hardware.trees import RecordingHost, tree_text
from deviceplugin.vendor import CdiSource, HealthProbe, Vendor, VendorModule
from deviceplugin.vendors.nvidia.library import Nvml, open_nvml

Document = dict[str, Any]  # JSON
# Beside what is asked for devices and their health: what tests may want of a real GPU. All of it
# only reads.
_NVML_QUESTIONS: Sequence[tuple[str, tuple[int, ...]]] = (
    ("nvmlDeviceGetTemperature", (0,)),
    *(("nvmlDeviceGetTemperatureThreshold", (kind,)) for kind in range(4)),
    ("nvmlDeviceGetPowerUsage", ()),
    ("nvmlDeviceGetPowerManagementLimit", ()),
    ("nvmlDeviceGetUtilizationRates", ()),
    *(("nvmlDeviceGetClockInfo", (kind,)) for kind in range(4)),
    *(("nvmlDeviceGetMaxClockInfo", (kind,)) for kind in range(4)),
    ("nvmlDeviceGetCurrPcieLinkGeneration", ()),
    ("nvmlDeviceGetCurrPcieLinkWidth", ()),
    ("nvmlDeviceGetMaxPcieLinkGeneration", ()),
    ("nvmlDeviceGetMaxPcieLinkWidth", ()),
    ("nvmlDeviceGetPcieReplayCounter", ()),
    ("nvmlDeviceGetFanSpeed", ()),
    ("nvmlDeviceGetPersistenceMode", ()),
    ("nvmlDeviceGetComputeMode", ()),
    ("nvmlDeviceGetPerformanceState", ()),
    ("nvmlDeviceGetSupportedEventTypes", ()),
    ("nvmlDeviceGetCurrentClocksEventReasons", ()),
)


def main(argv: list[str] | None = None) -> int:
    """Record every installed vendor."""
    parser = argparse.ArgumentParser(prog="python -m deviceplugin.testing.hardware.record")
    parser.add_argument("--host-root", type=Path, required=True)
    root = parser.parse_args(argv).host_root
    documents = {module.NAME: record(module, root) for module in load_vendors(None)}
    json.dump({name: d for name, d in documents.items() if d is not None}, sys.stdout)
    return 0


def record(module: VendorModule, root: Path) -> Document | None:
    """What a vendor found and what it was answered, None where its driver or hardware is absent.

    `tree` is text for `deviceplugin.testing.tree`, `nvml` the answers of NVML by call, `queries`
    Intel's answers of a DRM node by `driver node`, `error` why it found nothing.
    `driver_root` is the host path where NVML was found.
    """
    recording = _Recording(RecordingHost(root=root))
    vendor = recording.create(module)
    document: Document = {}
    try:
        found = vendor.discover()
        _exercise(vendor, found)
        recording.ask_more()
        document["discovery"] = as_document(found)
    except UnavailableError:
        return None
    except VendorError as error:
        document["error"] = str(error)
    document["tree"] = tree_text(Host(root), recording.host.seen, recording.host.listed)
    document["queries"] = recording.queries
    if recording.nvml is not None:
        document["nvml"] = recording.nvml.answers
        document["driver_root"] = recording.driver_root
    return document


def as_document(found: Discovery) -> Document:
    """A discovery as JSON values, in order."""
    return in_order(json.loads(msgspec.json.encode(found, enc_hook=dict)))


def in_order(plain: Document) -> Document:
    """The same discovery sorted by ids: redaction changes them, and order is no part of it."""
    for device in plain["devices"]:
        device["links"].sort(key=lambda link: (link["peer"], link["kind"]))
    plain["devices"].sort(key=lambda device: device["id"])
    plain["faults"].sort(key=lambda fault: (fault["device"], fault["source"], fault["code"]))
    return plain


class _Recording:
    """What a vendor is made with, so that its questions are noted."""

    def __init__(self, host: RecordingHost) -> None:
        self.host = host
        self.nvml: NvmlRecorder | None = None
        self.queries: dict[str, int | None] = {}
        self.driver_root = "/"

    def create(self, module: VendorModule) -> Vendor:
        """The vendor with its default settings."""
        create: Callable[..., Vendor] = module.create  # a seam is a vendor's own
        seams = {"open_library": self._open_nvml} if module.NAME == "nvidia" else {}
        vendor = create(self.host, decode_sections({}, module.SECTIONS), **seams)
        if module.NAME == "intel":
            self._listen(vendor)
        return vendor

    def ask_more(self) -> None:
        """The further questions to each NVIDIA GPU; one that is refused is an answer too."""
        if (api := self.nvml) is None:
            return
        with contextlib.suppress(api.NVMLError):
            for index in range(api.nvmlDeviceGetCount()):
                handle = api.nvmlDeviceGetHandleByIndex(index)
                for function, arguments in _NVML_QUESTIONS:
                    with contextlib.suppress(api.NVMLError, AttributeError):
                        getattr(api, function)(handle, *arguments)

    def _open_nvml(self, host: Host, driver_root: str) -> Nvml:
        import pynvml  # noqa: PLC0415  # as where it is used

        opened = open_nvml(host, driver_root)
        self.nvml = self.nvml or NvmlRecorder(pynvml)
        self.driver_root = opened.driver_root
        return Nvml(self.nvml, self.driver_root)

    def _listen(self, vendor: Any) -> None:  # Intel's, which has its query as a value
        query = vendor.query

        def noted(driver: str, node: str) -> int | None:
            answer: int | None = query(driver, node)
            self.queries[f"{driver} {node}"] = answer
            return answer

        vendor.query = noted


def _exercise(vendor: Vendor, found: Discovery) -> None:
    """Ask all that a daemon asks, for the files and answers that it needs."""
    for device in found.devices:
        if device.parent is None and isinstance(vendor, HealthProbe):
            with contextlib.suppress(VendorError):  # the answer is noted all the same
                vendor.probe_health(device)
        if device.resource is not None:
            vendor.container_edits([device])
    if isinstance(vendor, CdiSource):
        with contextlib.suppress(VendorError):
            vendor.cdi_specs(found.devices)


if __name__ == "__main__":
    sys.exit(main())
