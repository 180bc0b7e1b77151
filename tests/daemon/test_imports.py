"""What `run` loads: nothing that serves other commands, nothing that it can do without."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# `run` up to the wiring of the daemon, then what is there; as the console script starts it.
PROGRAM = """
import sys
from deviceplugin import __main__
names = ("kubelet-dir", "state-dir", "host-root", "cdi-dir")
folders = [f"--{name}={sys.argv[1]}" for name in names]
sys.argv = ["deviceplugin", "run", *folders, "--metrics-address=127.0.0.1:0"]
import atexit
atexit.register(lambda: print(*(name for name, module in sorted(sys.modules.items())
    if type(module).__name__ != "_AtFirstUse"), sep="\\n", flush=True))
__main__.main()
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The modules of a daemon without any GPU that served its endpoint and was ended."""
    folder = str(tmp_path_factory.mktemp("k"))
    command = [sys.executable, "-c", PROGRAM, folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        while b"metrics_served" not in (line := process.stderr.readline()):
            assert line, "it ended"
        process.terminate()
        return set(process.stdout.read().decode().split())


@pytest.mark.parametrize(
    "module",
    [
        *("deviceplugin.demo", "deviceplugin.testing", "deviceplugin.cli.explain"),
        *("deviceplugin.runtime.tables", "kubernetes", "prometheus_client", "psutil", "pynvml"),
        *("deviceplugin.telemetry.catalogue", "deviceplugin.telemetry.rounds", "sqlite3"),
        *("_ssl", "_hashlib", "email", "zipfile", "importlib.metadata", "difflib"),
        *("deviceplugin.metrics.tls", "deviceplugin.metrics.access", "deviceplugin.kubernetes.api"),
        *("deviceplugin.labels.follow", "deviceplugin.vendors.nvidia.labels"),
        *("deviceplugin.vendors.amd.labels", "deviceplugin.vendors.intel.labels"),
        *("deviceplugin.dra.node", "deviceplugin.dra.names", "deviceplugin.pb.dra_v1_pb2"),
        *("ctypes.util", "shutil", "tempfile", "bz2", "lzma"),
        *("deviceplugin.bypass.look", "deviceplugin.bypass.judge", "deviceplugin.access"),
        *("deviceplugin.profiling.window", "deviceplugin.profiling.files"),
        *("http.server", "http.client", "urllib.request", "socketserver", "wsgiref"),
        *("click", "deviceplugin.cli", "gettext"),
        *("yaml", "deviceplugin.config.yaml", "deviceplugin.config.nvidia_v1"),
        *("google.protobuf.text_format", "google.protobuf.internal.encoder"),
    ],
)
def test_run_does_not_load_what_it_does_not_need(module: str, loaded: set[str]) -> None:
    assert "deviceplugin.daemon.assembly" in loaded
    assert module not in loaded
