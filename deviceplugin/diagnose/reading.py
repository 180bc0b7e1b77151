"""What the checks need of the node's files and that nobody else reads; nothing is opened that
wakes a GPU."""

import ctypes
import json
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from deviceplugin.diagnose.model import CdiFile, LinkSpeed, NodeFile, PciGpu
from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.pci import DEVICES, PciFunction, read_gpus
from deviceplugin.host.sriov import read_physical_function, read_virtual_functions
from deviceplugin.names import one_line

# As in pci.ids; a vendor of a third party has no count of its own here.
PCI_VENDORS: Mapping[str, int] = {"nvidia": 0x10DE, "amd": 0x1002, "intel": 0x8086}
PERSISTENCED = "/run/nvidia-persistenced/socket"
_DUMPS = "/sys/class/devcoredump"
MAX_CDI_FILES = 100
_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
_TIMEX_BYTES = 512  # more than struct timex has; modes, its first field, is 0: nothing is set


def read_bus(host: Host) -> Iterator[PciGpu]:
    """Every GPU on the bus by vendor; a function that cannot be read has no driver."""
    for vendor, number in PCI_VENDORS.items():
        strange: dict[str, DiscoveryError] = {}
        for function in read_gpus(host, number, strange.__setitem__):
            try:
                yield _on_bus(host, vendor, function)
            except DiscoveryError as error:
                strange[function.address] = error
        yield from (PciGpu(address=one, vendor=vendor, driver=None) for one in strange)


def _on_bus(host: Host, vendor: str, function: PciFunction) -> PciGpu:
    wanted = _number(host, f"{function.path}/sriov_numvfs")
    there = len(read_virtual_functions(host, function.address)) if wanted else 0
    return PciGpu(
        address=function.address,
        vendor=vendor,
        driver=function.driver,
        virtual=read_physical_function(host, function.address) is not None,
        functions=(wanted, there) if wanted else None,
    )


def read_node(host: Host, path: str) -> NodeFile:
    """A device node's permissions, through links; it is not opened."""
    mode = None
    if host.exists(path):
        try:
            mode = stat.S_IMODE(os.stat(host.path(host.resolve(path))).st_mode)
        except OSError:
            mode = None
    return NodeFile(path=path, mode=mode)


def read_speed(host: Host, address: str) -> LinkSpeed | None:
    """Of the function's own link: `16.0 GT/s PCIe`; None where a link has none (`Unknown`)."""
    names = ("current_link_speed", "max_link_speed")
    current, possible = (_gts(_text(host, f"{DEVICES}/{address}/{name}")) for name in names)
    if current is None or possible is None:
        return None
    return LinkSpeed(current=current, possible=possible)


def _gts(text: str) -> float | None:
    word = text.partition(" ")[0]
    return float(word) if word.replace(".", "", 1).isdecimal() else None


def read_correctable(host: Host, address: str) -> int | None:
    """The sum of corrected PCIe errors; None where the kernel counts none."""
    for line in _text(host, f"{DEVICES}/{address}/aer_dev_correctable").splitlines():
        key, _, value = line.partition(" ")
        if key == "TOTAL_ERR_COR" and value.strip().isdecimal():
            return int(value)
    return None


def read_aperture(host: Host, address: str) -> int | None:
    """The largest region of a function, from `start end flags` of each."""
    sizes = []
    for line in _text(host, f"{DEVICES}/{address}/resource").splitlines()[:6]:
        try:
            start, end, _ = (int(word, 16) for word in line.split())
        except ValueError:
            continue
        sizes += [end - start + 1] if end > start else []
    return max(sizes, default=None)


def read_dumps(host: Host) -> tuple[str, ...]:
    """The devices whose crash dumps wait to be read."""
    return tuple(
        host.read_link_name(f"{_DUMPS}/{name}/failing_device") or name
        for name in _names(host, _DUMPS)
    )


def read_cdi_files(own: Host, directory: str, host: Host) -> Iterator[CdiFile]:
    """The CDI files of a directory as `own` sees it; what they name is looked for on `host`."""
    for name in _names(own, directory)[:MAX_CDI_FILES]:
        if name.endswith((".json", ".yaml", ".yml")):
            yield _read_cdi_file(own, f"{directory}/{name}", host)


def _read_cdi_file(own: Host, path: str, host: Host) -> CdiFile:
    try:
        document = _document(path, own.read_text(path) or "")
        named = sorted(set(_paths(document)))
    except (DiscoveryError, ValueError, AttributeError, TypeError, RecursionError) as error:
        return CdiFile(path=path, problem=one_line(f"it cannot be read: {error}", 200))
    return CdiFile(
        path=path, named=len(named), missing=tuple(p for p in named if not host.exists(p))
    )


def _document(path: str, text: str) -> Any:
    if path.endswith(".json"):
        return json.loads(text)
    import yaml  # noqa: PLC0415  # files of other programs alone

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _paths(document: Any) -> Iterator[str]:  # a file of any program
    edits = [document.get("containerEdits") or {}]
    edits += [device.get("containerEdits") or {} for device in document.get("devices") or ()]
    for edit in edits:
        for node in edit.get("deviceNodes") or ():
            yield str(node.get("hostPath") or node["path"])
        for mount in edit.get("mounts") or ():
            if str(mount["hostPath"]).startswith("/"):  # no `tmpfs` and the like
                yield str(mount["hostPath"])
        for hook in edit.get("hooks") or ():
            yield str(hook["path"])


def read_clock() -> bool | None:
    """Whether the kernel's clock is synchronised, which containers have in common with the host."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(
            ctypes.create_string_buffer(_TIMEX_BYTES)
        )
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _UNSYNCHRONISED


def _number(host: Host, path: str) -> int | None:
    try:
        return host.read_int(path)
    except DiscoveryError:
        return None


def _text(host: Host, path: str) -> str:
    try:
        return host.read_text(path) or ""
    except DiscoveryError:
        return ""


def _names(host: Host, path: str) -> tuple[str, ...]:
    try:
        return host.read_names(path)
    except DiscoveryError:
        return ()
