"""`fleet plan` asks a real Prometheus; each query is within the limits that it has by default."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from deviceplugin.cost.series import QUERIES as OF_PAST
from deviceplugin.fleet.questions import QUERIES
from deviceplugin.fleet.risk import SIGNS
from tests.fleet.prometheus import prometheus, wait_for
from tests.rig import END_S, fetch, run_command

pytestmark = pytest.mark.slow
GPUS, DAYS = 24, 10
PEAK = """\
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prometheus(tmp_path_factory.mktemp("store"), GPUS, DAYS) as url:
        yield url


def test_a_plan_is_made_of_what_the_store_has(store: str, tmp_path: Path) -> None:
    section = "resource_planning: {planning: {horizon: 7d, accuracy: 95%}}\n"
    (tmp_path / "config.yaml").write_text(section)
    config = ("--config", str(tmp_path / "config.yaml"))
    done = run_command("fleet", "plan", "--store", store, *config, "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    rows = {(row["resource"], row["namespace"]): row for row in document["rows"]}
    whole = rows["gpu", "all"]
    assert whole["capacity"] == GPUS
    assert whole["known_hours"] >= DAYS * 24 - 2
    assert {space for _, space in rows} >= {f"team-{n}" for n in range(5)}
    # Eight GPUs always, eight more by day.
    assert 8 <= min(whole["history"][1:]) < 9
    assert 15 < max(whole["history"]) <= 16
    assert whole["points"][23]["value"] == pytest.approx(whole["history"][-1], abs=2)
    assert rows["memory", "all"]["capacity"] == pytest.approx(GPUS * 80e9)
    assert document["no_data"] == ["partition", "network", "storage"]
    assert whole["accuracy_answer"].startswith("95 %: ")


# What a Prometheus allows by default, and how much more 200 GPUs and 30 days are than this store.
MOST_SAMPLES, LARGER = 50_000_000, 200 / GPUS * 30 / DAYS


@pytest.mark.parametrize("name", [*QUERIES, *OF_PAST, *SIGNS])
def test_a_query_of_a_larger_fleet_stays_far_below_the_limits_of_the_store(
    name: str, store: str
) -> None:
    query = {**QUERIES, **OF_PAST, **SIGNS}[name]
    end = time.time() // 3600 * 3600
    span = {"start": end - DAYS * 86400, "end": end, "step": 3600, "stats": "all"}
    _, text = fetch(f"{store}/api/v1/query_range?{urlencode({'query': query} | span)}")
    peak = json.loads(text)["data"]["stats"]["samples"]["peakSamples"]
    assert peak * LARGER < MOST_SAMPLES / 10


def test_a_report_takes_little_memory(store: str) -> None:
    words = [sys.executable, "-m", "deviceplugin", "fleet", "report", "--store", store]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *words], capture_output=True, text=True, check=True
    )
    assert int(done.stderr.split()[-1]) < 200


def test_what_a_person_reads_is_a_table(store: str) -> None:
    done = run_command("fleet", "plan", "--store", store, "--add", "2xH100", "--remove", "n0")
    assert done.returncode == 0, done.stderr
    assert "18.0" in done.stdout
    assert "storage: no data" in done.stdout


def test_a_report_is_a_page_that_needs_nothing_else(store: str) -> None:
    done = run_command("fleet", "report", "--store", store, "--format", "html")
    assert done.returncode == 0, done.stderr
    assert "<h2>Forecasts</h2>" in done.stdout
    assert "<h2>Cost</h2>" not in done.stdout
    assert "n2" in done.stdout
    assert "http://" not in done.stdout.replace("http://www.w3.org/2000/svg", "")


COSTS = """cost:
  prices: [{model: "*", hourly: 3.0, source: a contract, dated: 2026-01-01}]
  budgets: [{name: all, monthly: 1000000}]
"""


def test_a_bill_and_advice_are_made_of_the_store_itself(store: str, tmp_path: Path) -> None:
    (tmp_path / "costs.yaml").write_text(COSTS)
    words = ("--store", store, "--costs", str(tmp_path / "costs.yaml"), "-o", "json")
    done = run_command("fleet", "cost", *words, "--days", str(DAYS - 1))
    assert done.returncode == 0, done.stderr
    bill = json.loads(done.stdout)
    # GPUs that were given by day have their half of it; activity is in no metric of this store.
    assert bill["total"] == pytest.approx(3.0 * GPUS * (DAYS - 1) * 24)
    assert bill["parts"]["used"] == pytest.approx(bill["total"] / 2, rel=0.02)
    assert {one["name"] for one in bill["groups"]} >= {f"team-{n}" for n in range(5)}
    done = run_command("fleet", "advice", *words)
    assert done.returncode == 0, done.stderr
    assert "its activity was not measured" in done.stdout
    assert run_command("fleet", "budget", *words).returncode == 0


def test_prices_make_a_page_with_costs(store: str, tmp_path: Path) -> None:
    (tmp_path / "costs.yaml").write_text(COSTS)
    costs = ("--costs", str(tmp_path / "costs.yaml"))
    done = run_command("fleet", "report", "--store", store, *costs, "--format", "html")
    assert done.returncode == 0, done.stderr
    for head in ("Cost", "Savings", "Health risk"):
        assert f"<h2>{head}</h2>" in done.stdout


def test_a_store_that_is_not_there_is_one_line() -> None:
    done = run_command("fleet", "plan", "--store", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "http://127.0.0.1:1" in done.stderr


def test_the_page_is_served_until_sigterm(store: str, tmp_path: Path) -> None:
    (tmp_path / "costs.yaml").write_text(COSTS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = [sys.executable, "-m", "deviceplugin", "fleet", "serve", "--store", store]
    words += ["--costs", str(tmp_path / "costs.yaml")]
    with subprocess.Popen([*words, "--address", address]) as process:
        wait_for(f"http://{address}/")
        status, text = fetch(f"http://{address}/report.json")
        _, metrics = fetch(f"http://{address}/metrics")
        process.terminate()
        assert process.wait(END_S) == 0
    assert status == 200
    assert len(json.loads(text)["places"]) == GPUS // 8
    assert 'deviceplugin_budget_spent{budget="all"}' in metrics
    assert "deviceplugin_fleet_report_timestamp_seconds" in metrics
