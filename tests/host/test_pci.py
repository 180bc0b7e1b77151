"""PCI functions as discovery reads them: what is gone, what cannot be read."""

from pathlib import Path

import pytest

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.pci import read_function, read_gpus
from deviceplugin.testing.tree import write_tree

ADDRESS = "0000:63:00.0"
PATH = f"/sys/bus/pci/devices/{ADDRESS}"
GPU = {"vendor": "0x1002", "device": "0x740f", "class": "0x038000"}


def write(root: Path, **values: str) -> Host:
    """A function with these files; a value of two slashes is a file that cannot be read."""
    for name, value in (GPU | values).items():
        entry = f"{PATH}/{name}/" if value == "//" else f"{PATH}/{name} = {value}"
        write_tree(root, entry)
    return Host(root)


def lost_of(host: Host, vendor_id: int = 0x1002) -> tuple[int, list[str]]:
    """How many GPUs can be read, and the addresses of those that cannot."""
    lost: list[str] = []
    found = read_gpus(host, vendor_id, lambda address, _: lost.append(address))
    return len(found), lost


def test_a_gpu_is_found(tmp_path: Path) -> None:
    assert lost_of(write(tmp_path)) == (1, [])


@pytest.mark.parametrize("file", ["device", "class"])
@pytest.mark.parametrize("value", ["//", "nonsense"], ids=["a read error", "nonsense"])
def test_a_gpu_that_cannot_be_read_does_not_vanish_silently(
    tmp_path: Path, file: str, value: str
) -> None:
    host = write(tmp_path, **{file: value})
    assert lost_of(host) == (0, [ADDRESS])
    with pytest.raises(DiscoveryError, match=f"{ADDRESS}/{file}"):
        read_function(host, ADDRESS)


def test_other_functions_that_cannot_be_read_are_nobodys_fault(tmp_path: Path) -> None:
    host = write(tmp_path, device="//", **{"class": "0x020000"})
    assert lost_of(host) == (0, [])
    assert lost_of(host, vendor_id=0x10DE) == (0, [])


def test_a_function_that_vanishes_while_it_is_read_is_gone(tmp_path: Path) -> None:
    host = write(tmp_path)
    Path(host.path(f"{PATH}/class")).unlink()
    assert read_function(host, ADDRESS) is None
    assert lost_of(host) == (0, [])


@pytest.mark.parametrize("name", ["0x088000", "0x0b4000"], ids=["peripheral", "co-processor"])
def test_accelerators_of_other_classes_are_found_by_who_asks_for_them(
    tmp_path: Path, name: str
) -> None:
    host = write(tmp_path, **{"class": name})
    assert read_gpus(host, 0x1002) == ()
    (found,) = read_gpus(host, 0x1002, classes={0x0880, 0x0B40})
    assert found.address == ADDRESS
    lost: list[str] = []
    (tmp_path / PATH[1:] / "device").unlink()
    broken = write(tmp_path, device="//", **{"class": name})
    read_gpus(broken, 0x1002, lambda address, _: lost.append(address), {0x0880, 0x0B40})
    assert lost == [ADDRESS]
