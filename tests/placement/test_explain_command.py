"""`deviceplugin explain` as a person runs it, on a node of the NVML double."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.nvml import (
    NvmlDouble,
    Scenario,
    a100_40gb,
    gpu_uuid,
    with_nvlink_pairs,
    write_host_tree,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def root(tmp_path: Path) -> Path:
    gpus = with_nvlink_pairs(tuple(map(a100_40gb, range(4))), [(0, 1), (2, 3)])
    double = NvmlDouble(tmp_path, scenario=Scenario(gpus=gpus))
    write_host_tree(tmp_path, double.scenario)
    return tmp_path


def explain(root: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "deviceplugin", "explain", "--vendors", "nvidia"]
    where = ("--host-root", str(root), "--state-dir", str(root), "--resource", "nvidia.com/gpu")
    return subprocess.run(
        [*command, *where, *flags], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_gpu_without_its_partner_goes_first(root: Path) -> None:
    free = ",".join(gpu_uuid(number) for number in (1, 2, 3))
    answer = explain(root, "--size", "1", "--available", free, "--format", "json")
    assert answer.returncode == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert document["policy"] == "aligned"
    assert document["chosen"]["ids"] == [gpu_uuid(1)]
    assert document["chosen"]["score"]["rest"] < document["runners_up"][0]["score"]["rest"]


def test_the_table_shows_pairs(root: Path) -> None:
    must = gpu_uuid(2)
    answer = explain(root, "--size", "2", "--must-include", must)
    assert f"must include {must}" in answer.stdout
    assert "NVLINK ×4" in answer.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--size", "1", "--available", "GPU-x"), "--available: 'GPU-x' is not valid"),
        (("--size", "1", "--policy", "bogus"), "one of aligned, packed, spread"),
        (("--size", "1", "--resource", "a/b"), "expected one of nvidia.com/gpu"),
        (("--size", "-1"), "expected a whole number from 0"),
        (("--size", "1", "--format", "xml"), "one of table, json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_flag_is_named(root: Path, flags: tuple[str, ...], message: str) -> None:
    answer = explain(root, *flags)
    assert answer.returncode == 2
    assert message in answer.stderr
