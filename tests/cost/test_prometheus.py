"""The queries are asked of a real Prometheus, whose answers become a bill."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from deviceplugin.cost.bill import Biller
from deviceplugin.cost.pieces import Part
from deviceplugin.cost.replies import read_replies
from deviceplugin.cost.series import QUERIES, history_of
from tests.cost.examples import costs

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (PROMETHEUS and PROMTOOL), reason="no prometheus is installed"),
]
HOURS, STEP_S, WAIT_S = 4, 60, 120
DEVICE = 'uuid="GPU-0",vendor="nvidia",model="H100",node="n1",index="0",pci="",partition=""'
POD = 'namespace="ml",pod="a-0",container="c"'


def samples(begin: int) -> Iterator[str]:
    """Four hours of a GPU; in the second and third a pod has half of it, in the third it idles,
    and it ends in the middle of it."""
    at = range(begin + STEP_S // 2, begin + HOURS * 3600, STEP_S)
    series = {
        f"deviceplugin_gpu_up{{{DEVICE}}}": [(t, 1.0) for t in at],
        f"deviceplugin_gpu_energy_joules_total{{{DEVICE}}}": [(t, 100.0 * (t - begin)) for t in at],
        f"deviceplugin_gpu_pod_allocated_ratio{{{DEVICE},{POD}}}": [
            (t, 0.5) for t in at if 3600 <= t - begin < 9000
        ],
        f"deviceplugin_gpu_pod_utilization_ratio{{{DEVICE},{POD}}}": [
            (t, 0.4 if t - begin < 7200 else 0.0) for t in at if 3600 <= t - begin < 9000
        ],
    }
    for name, values in series.items():
        metric = name.partition("{")[0]
        kind = "counter" if metric.endswith("_total") else "gauge"
        yield f"# TYPE {metric.removesuffix('_total')} {kind}\n"
        yield from (f"{name} {value} {moment}\n" for moment, value in values)
    yield "# EOF\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """The address of a Prometheus, and when its history begins."""
    begin = int(time.time()) // 3600 * 3600 - 12 * 3600
    (tmp_path / "metrics").write_text("".join(samples(begin)))
    (tmp_path / "prometheus.yml").write_text("global: {}\n")
    data = str(tmp_path / "data")
    make = (PROMTOOL, "tsdb", "create-blocks-from", "openmetrics", str(tmp_path / "metrics"), data)
    subprocess.run([*map(str, make)], check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = (
        *(str(PROMETHEUS), f"--config.file={tmp_path / 'prometheus.yml'}"),
        *(f"--storage.tsdb.path={data}", f"--web.listen-address=127.0.0.1:{port}"),
    )
    with (tmp_path / "log").open("w") as log, subprocess.Popen(words, stderr=log) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/-/ready")
            yield f"http://127.0.0.1:{port}", begin
        finally:
            process.terminate()


def wait_for(url: str) -> None:
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            with urlopen(url, timeout=5):  # noqa: S310  # its own server
                return
        except (URLError, OSError):
            time.sleep(0.05)
    pytest.fail(f"{url} does not answer")


def test_a_real_store_answers_every_query(store: tuple[str, int], tmp_path: Path) -> None:
    address, begin = store
    replies = tmp_path / "replies"
    replies.mkdir()
    span = {"start": begin + 3600, "end": begin + HOURS * 3600, "step": 3600}
    for name, query in QUERIES.items():
        url = f"{address}/api/v1/query_range?{urlencode({'query': query} | span)}"
        with urlopen(url, timeout=WAIT_S) as reply:  # noqa: S310  # its own server
            text = reply.read()
        assert json.loads(text)["status"] == "success", query
        (replies / f"{name}.json").write_bytes(text)
    found = history_of(read_replies(replies))
    assert len(found.cells) == HOURS
    assert [round(cell.granted, 2) for cell in found.cells] == [0, 0.5, 0.25, 0]
    assert [round(cell.readings.energy_joules or 0, -3) for cell in found.cells] == [36e4] * HOURS
    prices = [{"hourly": 8, "source": "x", "dated": "2026-01-01"}]
    bill = Biller(costs(prices=prices)).bill(found)
    parts = {part: round(bill.of(part), 1) for part in Part}
    assert parts[Part.USED] == 4
    assert parts[Part.IDLE] == 2
    assert sum(parts.values()) == pytest.approx(32)
