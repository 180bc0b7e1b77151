"""A capture again: the vendor over the recorded files and answers, without hardware.

for name in vendors_of(capture):
assert as_document(replayed(capture, name, tmp_path).discover()) == discovered(capture, name)
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deviceplugin.config.schema import decode_sections
from deviceplugin.discovery.registry import load_vendors
from deviceplugin.host import Host
from deviceplugin.testing.hardware.nvml_replay import ReplayedNvml
from deviceplugin.testing.hardware.record import in_order
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendor import Vendor
from deviceplugin.vendors.nvidia.library import Nvml


def vendors_of(capture: Path) -> tuple[str, ...]:
    """The vendors that were recorded in a capture's directory."""
    return tuple(sorted(path.stem for path in capture.glob("*.tree")))


def discovered(capture: Path, vendor: str) -> Any:
    """What the vendor found on the machine, as `as_document` gives it."""
    return in_order(json.loads((capture / f"{vendor}.json").read_text())["discovery"])


def replayed(capture: Path, name: str, root: Path) -> Vendor:
    """The vendor with its default settings on the files of the capture, written below `root`."""
    (root / name).mkdir(parents=True)
    host = Host(root / name)
    write_tree(host.root, (capture / f"{name}.tree").read_text())
    recorded = json.loads((capture / f"{name}.json").read_text())
    (module,) = load_vendors((name,))
    create: Callable[..., Vendor] = module.create  # a seam is a vendor's own
    seams = {}
    if (answers := recorded.get("nvml")) is not None:
        nvml = ReplayedNvml(answers)
        seams["open_library"] = lambda *_: Nvml(nvml, recorded["driver_root"])
    vendor: Any = create(host, decode_sections({}, module.SECTIONS), **seams)
    if recorded["queries"]:
        vendor.query = lambda driver, node: recorded["queries"].get(f"{driver} {node}")
    return vendor  # type: ignore[no-any-return]  # what create returned
