"""amdsmi on a GIM host, by a double of the package on the module path."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vendors.amd.amd_nodes import NODES, look, offered

DOUBLE = """
class AmdSmiException(Exception):
    err_code = 5
def amdsmi_init():
    {init}
def amdsmi_shut_down():
    pass
def amdsmi_get_vf_handle_from_bdf(bdf):
    if bdf.endswith(".7"):
        raise AmdSmiException("no such VF")
    return bdf
def amdsmi_get_vf_info(handle):
    return {{"fb": {{"fb_offset": 256, "fb_size": 8128}}}}
"""
GIM = "\n/dev/gim-smi0 c 236:0"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the module path, from which amdsmi is imported."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("amdsmi", None)


def test_gims_own_word_on_the_size_comes_first(tmp_path: Path, installed: Path) -> None:
    (installed / "amdsmi.py").write_text(DOUBLE.format(init="pass"))
    found = look(tmp_path / "root", NODES["gim-v620"] + GIM)
    assert [d.attributes["memory_source"] for d in offered(found, "amd.com/mxgpu-8gb-vfio")] == (
        ["amdsmi"] * 7
    )
    (last,) = offered(found, "amd.com/mxgpu-4gb-vfio")
    assert last.id == "0000:c3:02.7"


def test_without_gims_device_node_amdsmi_is_not_asked(tmp_path: Path, installed: Path) -> None:
    (installed / "amdsmi.py").write_text("raise AssertionError('imported')")
    found = look(tmp_path / "root", NODES["gim-v620"])
    assert len(offered(found, "amd.com/mxgpu-4gb-vfio")) == 8


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(DOUBLE.format(init="raise AmdSmiException('busy')"), id="driver-refuses"),
        pytest.param("raise KeyError('libamd_smi.so')", id="library-missing"),
        pytest.param("raise ImportError('amdsmi')", id="not-installed"),
        pytest.param(
            DOUBLE.format(init="pass").replace("get_vf_info", "get_nothing"), id="guest-build"
        ),
    ],
)
def test_an_amdsmi_that_does_not_work_leaves_the_arithmetic(
    tmp_path: Path, installed: Path, text: str
) -> None:
    (installed / "amdsmi.py").write_text(text)
    found = look(tmp_path / "root", NODES["gim-v620"] + GIM)
    assert len(offered(found, "amd.com/mxgpu-4gb-vfio")) == 8
