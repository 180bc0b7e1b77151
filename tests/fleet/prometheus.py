"""A real Prometheus with a made-up history of a fleet."""

import contextlib
import math
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

from tests.alerts.debian import program
from tests.rig import END_S, WAIT_S

STEP_S = 600


def openmetrics(gpus: int, days: int, end: int, step_s: int = STEP_S) -> Iterator[str]:
    """Each GPU is there all the time; of two of three a pod has it, by day or always."""
    names = ("up", "memory_used_bytes", "memory_total_bytes", "pod_allocated_ratio")
    moments = range(end - days * 86400, end, step_s)
    for name in names:
        yield f"# TYPE deviceplugin_gpu_{name} gauge\n"
        for gpu in range(gpus):
            labels = (
                f'vendor="nvidia",uuid="GPU-{gpu}",index="{gpu % 8}",model="NVIDIA H100",'
                f'partition="",node="n{gpu // 8}"'
            )
            if name == "pod_allocated_ratio":
                labels += f',namespace="team-{gpu % 5}",pod="p-{gpu}",container="c"'
            for at in moments:
                value = _value(name, gpu, at)
                if value is not None:
                    yield f"deviceplugin_gpu_{name}{{{labels}}} {value:g} {at}\n"
    yield "# EOF\n"


def _value(name: str, gpu: int, at: int) -> float | None:
    if name == "up":
        return 1.0
    if name == "memory_total_bytes":
        return 80e9
    if name == "memory_used_bytes":
        return round(40e9 + 30e9 * math.sin(at / 86400 * 2 * math.pi), -6)
    by_day = gpu % 3 == 1 and 8 <= at // 3600 % 24 < 20
    return 1.0 if gpu % 3 == 0 or by_day else None


@contextlib.contextmanager
def prometheus(directory: Path, gpus: int, days: int, step_s: int = STEP_S) -> Iterator[str]:
    """The URL of a store that has the history until now."""
    server, tool = program("prometheus", "prometheus"), program("promtool", "prometheus")
    with (directory / "metrics").open("w") as file:
        file.writelines(openmetrics(gpus, days, int(time.time()), step_s))
    data = directory / "data"
    # promtool reads the whole file for each block: of two hours, a month has 360 of them.
    make = [tool, "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=500h"]
    make += [str(directory / "metrics"), str(data)]
    subprocess.run(make, check=True, capture_output=True)
    (directory / "metrics").unlink()
    (directory / "prometheus.yml").write_text("global: {}\n")
    words = [server, f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={data}"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words += [f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=1y"]
    with (directory / "log").open("w") as log, subprocess.Popen(words, stderr=log) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/-/ready")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(END_S)


def wait_for(url: str) -> None:
    """Until it answers with 200."""
    end = time.monotonic() + WAIT_S
    while True:
        try:
            with urlopen(url, timeout=WAIT_S):  # noqa: S310  # its own server
                return
        except OSError:
            assert time.monotonic() < end, url
            time.sleep(0.05)
