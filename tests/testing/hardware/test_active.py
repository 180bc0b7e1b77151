"""The active test of a machine: what its document means, and where it is not made."""

import subprocess
import sys
from pathlib import Path

import pytest

from deviceplugin.testing.hardware.active import active_check, check_of
from deviceplugin.testing.hardware.daemon import Running
from deviceplugin.testing.hardware.verdict import Verdict
from deviceplugin.testing.kubelet import KubeletStub


@pytest.mark.parametrize(
    ("verdicts", "found"),
    [
        (["pass", "pass"], Verdict.AGREE),
        (["pass", "warn", "skipped"], Verdict.AGREE),
        (["pass", "fail"], Verdict.DIFFER),
        (["skipped"], Verdict.NOT_AVAILABLE),
    ],
)
def test_only_a_failed_test_differs(verdicts: list[str], found: Verdict) -> None:
    checks = [{"check": "memory_test", "verdict": one, "value": "v"} for one in verdicts]
    assert check_of({"checks": checks}).verdict is found


@pytest.mark.slow  # a process stands for the daemon
async def test_beside_a_kubelet_and_without_a_gpu_nothing_is_tested(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])  # noqa: ASYNC220  # at once
    node = Running(stub=KubeletStub(tmp_path / "k"), process=process, log=tmp_path / "log")
    (without,) = (await active_check(node, tmp_path, [])).details
    socket = tmp_path / "var/lib/kubelet/pod-resources/kubelet.sock"
    socket.parent.mkdir(parents=True)
    socket.touch()
    (beside,) = (await active_check(node, tmp_path, ["GPU-0"])).details
    process.wait()
    assert (without, beside) == ("no whole GPU", "a kubelet runs here: pods may hold GPUs")
