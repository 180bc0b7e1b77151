"""`deviceplugin preflight` on a double of the CUDA driver."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.cuda import cuda_folder
from tests.rig import run_command

pytestmark = pytest.mark.slow  # the command and its children are processes
GPUS = ("0000:07:00.0", "0000:0f:00.0")


def preflight(
    *flags: str, fault: str = "", gpus: tuple[str, ...] = GPUS
) -> "subprocess.CompletedProcess[str]":
    variables = {
        "LD_LIBRARY_PATH": str(cuda_folder()),
        "FAKE_CUDA_GPUS": ",".join(gpus),
        "FAKE_CUDA": fault,
    }
    return run_command("preflight", "--seconds=8", *flags, **variables)


def test_gpus_that_are_well_let_the_job_start(tmp_path: Path) -> None:
    message = tmp_path / "message"
    message.touch()
    done = preflight(f"--message={message}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "preflight: 2 GPUs are fit for the job"
    assert message.read_text() == "preflight: 2 GPUs are fit for the job"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("wrong-memory", "memory_test of GPU 0000:07:00.0: "),
        ("wrong-sums", "compute_test of GPU 0000:07:00.0: "),
        ("wrong-tensors", "compute_test of GPU 0000:07:00.0: "),
        ("broken", "CUDA_ERROR_ECC_UNCORRECTABLE"),
        ("crash", "it ended with signal 6"),
        ("slow", "of what the product usually reaches"),
        ("no-device", "no GPU can be used here: cuInit: CUDA_ERROR_NO_DEVICE"),
    ],
)
def test_a_gpu_that_is_not_fit_keeps_the_job_from_starting(fault: str, says: str) -> None:
    done = preflight(fault=fault, gpus=GPUS[:1])
    assert done.returncode == 1, done.stdout
    last = (done.stdout or done.stderr).splitlines()[-1]
    assert says in last
    if fault != "no-device":
        assert last.endswith("tell who runs the node")


def test_every_result_is_had_as_a_document(tmp_path: Path) -> None:
    done = preflight("--format=json", f"--message={tmp_path / 'none'}")
    document: dict[str, Any] = json.loads(done.stdout)
    found = {(one["check"], one["subject"]) for one in document["checks"]}
    assert found == {(test, gpu) for test in ("memory_test", "compute_test") for gpu in GPUS}
    assert list(tmp_path.iterdir()) == []


def test_without_a_driver_nothing_is_called_fit(tmp_path: Path) -> None:
    done = run_command("preflight", LD_LIBRARY_PATH=str(tmp_path))
    assert done.returncode == 1
    assert "there is no CUDA driver" in done.stderr


def test_too_little_time_is_refused() -> None:
    done = run_command("preflight", "--seconds=3")
    assert (done.returncode, "from 8 to 3600" in done.stderr) == (2, True)
