"""A capture again: the vendor over the recorded files and answers, without hardware.

    vendor = replayed(capture, "nvidia", tmp_path)
    assert [device.product for device in vendor.discover().devices] == ["NVIDIA H200"] * 8

`python -m deviceplugin.testing.hardware.replay DIR…` tells what has become different, and with
`--accept` writes what is found now as what is expected.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from deviceplugin.config.schema import decode_sections
from deviceplugin.discovery.registry import load_vendors
from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.testing.hardware.nvml_replay import ReplayedNvml
from deviceplugin.testing.hardware.record import as_document, in_order
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendor import Vendor
from deviceplugin.vendors.nvidia.library import Nvml


def vendors_of(capture: Path) -> tuple[str, ...]:
    """The vendors that were recorded in a capture's directory."""
    return tuple(sorted(path.stem for path in capture.glob("*.tree")))


def discovered(capture: Path, vendor: str) -> Any:
    """What the vendor found on the machine, as `as_document` gives it."""
    recorded = json.loads((capture / f"{vendor}.json").read_text())
    return in_order(recorded.get("discovery", {"devices": [], "faults": []}))


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


def replay_problems(capture: Path) -> list[str]:
    """What the capture gives otherwise than it was found on the machine, one line each.

    What was recorded must come again. More may: newer code finds more.
    """
    problems = []
    with tempfile.TemporaryDirectory() as root:
        for name in vendors_of(capture):
            recorded = discovered(capture, name)
            try:
                found = as_document(replayed(capture, name, Path(root)).discover())
            except VendorError as error:
                problems += [f"{name}: {error}"] if recorded["devices"] else []
                continue
            problems += [f"{name}: {problem}" for problem in _differences(recorded, found)]
    return problems


def accept(capture: Path) -> None:
    """Let what the capture gives now be what is expected of it; raises VendorError."""
    with tempfile.TemporaryDirectory() as root:
        for name in vendors_of(capture):
            file = capture / f"{name}.json"
            found = as_document(replayed(capture, name, Path(root)).discover())
            recorded = json.loads(file.read_text()) | {"discovery": found}
            file.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Replay captures: 0, or 1 where one gives something else and it is not accepted."""
    parser = argparse.ArgumentParser(prog="python -m deviceplugin.testing.hardware.replay")
    parser.add_argument("captures", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--accept", action="store_true", help="expect what is found now")
    arguments = parser.parse_args(argv)
    problems = [f"{c}: {p}" for c in arguments.captures for p in replay_problems(c)]
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    if arguments.accept:
        for capture in arguments.captures:
            accept(capture)
    return int(bool(problems) and not arguments.accept)


def _differences(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("devices", "faults"):
        before, after = ({_key(item): item for item in d[kind]} for d in (recorded, found))
        for key in sorted(before.keys() | after.keys()):
            if key not in before or key not in after:
                yield f"{key}: {'only recorded' if key in before else 'was not there'}"
                continue
            for name, was in before[key].items():
                if not _holds(was, now := after[key].get(name)):
                    yield f"{key}: {name} was {was!r:.100}, is {now!r:.100}"


def _holds(was: Any, now: Any) -> bool:
    """Whether a recorded value came again: of a mapping each of its items, at any depth."""
    if isinstance(was, dict) and isinstance(now, dict):
        return all(name in now and _holds(value, now[name]) for name, value in was.items())
    if isinstance(was, list) and isinstance(now, list):
        return len(was) == len(now) and all(map(_holds, was, now))
    return bool(was == now)


def _key(item: Mapping[str, Any]) -> str:
    return item["id"] if "id" in item else f"{item['device']} {item['source']}/{item['code']}"


if __name__ == "__main__":
    sys.exit(main())
