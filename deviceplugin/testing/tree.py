r"""Directory trees from text: a node's sysfs, procfs and /dev for tests and the demo.

One entry a line, `#` starts a comment, host paths:

    /sys/bus/pci/devices/0000:63:00.0/vendor = 0x1002
    /sys/bus/pci/devices/0000:63:00.0/driver -> ../../../bus/pci/drivers/amdgpu
    /sys/class/kfd/kfd/topology/nodes/1/properties = simd_count 416\nsimd_per_cu 4
    /sys/devices/platform/amdgpu_xcp.0/
    /dev/dri/renderD128 c 226:128

Character nodes become plain files: making real ones needs a privilege that tests do not have.
"""

import os
import shutil
from pathlib import Path


def write_tree(root: Path, text: str) -> None:
    """Make or replace the entries of `text` below `root`; raises ValueError for a bad line."""
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            try:
                _write_entry(root, entry)
            except (ValueError, OSError) as error:
                raise ValueError(f"line {number}: {entry!r}: {error}") from error


def remove(root: Path, *host_paths: str) -> None:
    """Take entries away again, directories with all that is in them."""
    for host_path in host_paths:
        path = _below(root, host_path)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _write_entry(root: Path, entry: str) -> None:
    if " -> " in entry:
        path, target = entry.split(" -> ", 1)
        _write_link(_below(root, path), target.strip())
    elif " = " in entry or entry.endswith(" ="):
        path, _, text = entry.partition(" =")
        _write_file(_below(root, path), text.strip().replace("\\n", "\n") + "\n")
    elif entry.endswith("/"):
        _below(root, entry).mkdir(parents=True, exist_ok=True)
    elif " c " in entry:
        path, _, numbers = entry.partition(" c ")
        _write_file(_below(root, path), f"character device {numbers.strip()}\n")
    else:
        raise ValueError("neither a file (=), a link (->), a directory (/) nor a node (c)")


def _below(root: Path, host_path: str) -> Path:
    if not host_path.startswith("/") or ".." in Path(host_path).parts:
        raise ValueError(f"{host_path!r} is not an absolute path")
    return root / host_path.strip().lstrip("/")


def _write_link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _write_file(path: Path, text: str) -> None:
    """Replace by rename, as a reader may be in the middle of the tree."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    os.replace(temporary, path)  # atomic, the point of the function
