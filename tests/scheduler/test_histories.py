"""Runs from the nodes' own daemons: who is asked, what a bad one costs, and what is told."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from click.testing import CliRunner

from deviceplugin.cli.scheduler import scheduler_commands
from deviceplugin.daemon.door import door_of
from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.kubernetes.api import Api
from deviceplugin.learning.model import decode
from deviceplugin.learning.nodes import merged
from deviceplugin.learning.runs import Run
from deviceplugin.learning.settings import Learning
from deviceplugin.metrics.section import MetricsSection
from deviceplugin.metrics.store import Access
from deviceplugin.runtime.part import Response
from deviceplugin.scheduler import page as pages
from deviceplugin.scheduler.histories import Daemons, Histories, Place, daemons_of
from deviceplugin.scheduler.objects import Pod
from deviceplugin.scheduler.service import Service, Settings
from tests.kubernetes.stub import ACCOUNT
from tests.kubernetes.stub import TOKEN as TOKEN_OF_API
from tests.learning.jobs import jobs
from tests.scheduler.daemons import answering, daemon_pod, daemons, page_of
from tests.scheduler.objects import node
from tests.scheduler.stub import WatchStub, watch_stub

RUNS = list(jobs(40))
OFF = Response("404 Not Found", "text/plain", "runs.enabled is false\n")
HIDDEN = Response("403 Forbidden", "text/plain", "metrics.pods does not\n")
CERTIFICATES = Path(__file__).parent / "certificates"
TOKEN = "t" * 32
PATIENT_S = 60.0


def histories(port: int, addresses: list[str], **access: Any) -> Histories:
    scheme = access.pop("scheme", "http")
    url = f"{scheme}://deviceplugin.kube-system:{port}"
    of = {"timeout_s": PATIENT_S} | access
    places = [Place(f"n{number}", address) for number, address in enumerate(addresses)]
    return Histories(Access(address=url, **of), lambda: places)


async def test_each_node_gives_its_runs_and_what_is_wrong_with_one_costs_it_alone() -> None:
    strange = Response("200 OK", "application/json", "{}")
    given = (page_of("a", RUNS[:30]), OFF, HIDDEN, strange, page_of("b", RUNS[30:]))
    with daemons(*given) as (port, addresses):
        asked = histories(port, [*addresses, "127.0.0.99"])
        with structlog.testing.capture_logs() as logs:
            found = await asked.collect()
    assert {node: len(runs) for node, runs in found.items()} == {"n0": 30, "n4": 10}
    assert asked.outcomes == {"given": 2, "off": 1, "refused": 1, "failed": 2}
    assert asked.runs == 40
    assert logs == []


async def test_that_no_node_gave_any_is_told_once_and_so_is_that_one_did_again() -> None:
    with daemons(OFF) as (port, addresses), structlog.testing.capture_logs() as logs:
        asked = histories(port, addresses)
        assert await asked.collect() == {}
        assert await asked.collect() == {}
    with daemons(page_of("a", RUNS)) as (port, addresses), structlog.testing.capture_logs() as more:
        again = histories(port, addresses)
        again._missing = True
        await again.collect()
    assert [one["event"] for one in logs] == ["scheduler_histories_missing"]
    assert "n0: 404 runs.enabled is false" in logs[0]["reason"]
    assert (logs[0]["off"], logs[0]["given"]) == (1, 0)
    assert [(one["event"], one["runs"]) for one in more] == [("scheduler_histories_given", 40)]


async def test_without_any_pod_of_the_name_that_is_the_reason() -> None:
    with structlog.testing.capture_logs() as logs:
        assert await histories(1, []).collect() == {}
    assert logs[0]["reason"] == "no pod is called so"


async def test_a_daemon_that_never_answers_is_given_up_at_its_time_out() -> None:
    async with answering(None) as port:
        asked = histories(port, ["127.0.0.2"], timeout_s=0.05)
        with structlog.testing.capture_logs() as logs:
            assert await asked.collect() == {}
    assert asked.outcomes["failed"] == 1
    assert "no answer within 0.05 s" in logs[0]["reason"]


@pytest.mark.parametrize(
    ("answer", "meant"),
    [
        (b"", "bytes read"),
        (b"hello\r\n\r\n", "no HTTP/1 answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", "without a Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "without a Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4194305\r\n\r\n", "at most 4194304 are taken"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", "5 bytes read"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 7\r\n\r\n\x1b[31mno\n", "500 \ufffd[31mno"),
        (b"x" * (pages.MAX_HEAD_BYTES + 9), "limit"),
    ],
)
async def test_an_answer_that_no_daemon_gives_is_one_that_failed(answer: bytes, meant: str) -> None:
    async with answering(answer) as port:
        asked = histories(port, ["127.0.0.2"])
        with structlog.testing.capture_logs() as logs:
            assert await asked.collect() == {}
    assert asked.outcomes["failed"] == 1
    assert meant in logs[0]["reason"]


@pytest.fixture
def files(tmp_path: Path) -> MetricsSection:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN}\n")
    return MetricsSection(
        certificate_file=str(CERTIFICATES / "daemon.crt"),
        key_file=str(CERTIFICATES / "daemon.pem"),
        token_file=str(tokens),
    )


async def test_over_tls_the_name_of_the_url_and_a_token_are_shown(
    tmp_path: Path, files: MetricsSection
) -> None:
    ours = {"token_file": tmp_path / "tokens", "ca_file": CERTIFICATES / "daemon.crt"}
    with daemons(page_of("a", RUNS), door=door_of(files)) as (port, addresses):
        asked = histories(port, addresses, scheme="https", **ours)
        assert len((await asked.collect())["n0"]) == 40
        for change, outcome, meant in (
            ({"token_file": None}, "refused", "401"),
            ({"ca_file": None}, "failed", "CERTIFICATE_VERIFY_FAILED"),
            ({"token_file": tmp_path / "none"}, "failed", "No such file"),
            ({"scheme": "http"}, "refused", "https alone"),
        ):
            asked = histories(port, addresses, **{"scheme": "https", **ours, **change})
            with structlog.testing.capture_logs() as logs:
                assert await asked.collect() == {}
            assert asked.outcomes[outcome] == 1, logs
            assert meant in logs[0]["reason"]


def test_daemons_are_the_pods_of_the_name_and_namespace_that_run_one_of_a_node() -> None:
    pods = [
        daemon_pod("n1", "10.0.0.1"),
        daemon_pod("n2", "10.0.0.2"),
        daemon_pod("n3", ""),
        daemon_pod("n4", "10.0.0.4", status={"phase": "Failed", "podIP": "10.0.0.4"}),
        daemon_pod("n5", "10.0.0.5", metadata={"name": "x", "namespace": "kube-system"}),
    ]
    stranger = daemon_pod("n6", "10.0.0.6")
    stranger["metadata"]["namespace"] = "ml"
    found = Daemons("deviceplugin", "kube-system").places(
        msgspec.convert([*pods, stranger, daemon_pod("n1", "10.0.0.7")], list[Pod])
    )
    assert found == [Place("n1", "10.0.0.7"), Place("n2", "10.0.0.2")]


@pytest.mark.parametrize(
    "url",
    [
        "http://deviceplugin:9440",
        "http://deviceplugin.kube-system:9440/runs",
        "http://deviceplugin.kube%2fsystem",
        "http://10.0.0.1:9440/",
        "deviceplugin.kube-system:9440",
        "http://deviceplugin.kube-system:0",
    ],
)
def test_a_url_that_names_no_daemons_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected a URL such as"):
        daemons_of(Access(address=url, flag="--history"))


def test_a_url_names_daemons_as_dns_does() -> None:
    for end in ("", ":9440", ".svc:9440", ".svc.cluster.local/"):
        url = f"https://deviceplugin.kube-system{end}"
        assert daemons_of(Access(address=url)) == Daemons("deviceplugin", "kube-system")


def test_runs_of_nodes_get_the_owner_that_the_cluster_names_and_none_counts_twice() -> None:
    worker = Run(namespace="ml", owner="job-worker", start=0.0, seconds=5.0)
    other = Run(namespace="web", owner="job-worker", start=1.0, seconds=5.0)
    watched = Run(namespace="ml", owner="x", start=2.0, seconds=5.0)
    owners = {("ml", "job-worker"): "job"}
    found = merged({"n0": [worker], "n1": [other]}, owners, [watched])
    assert [(run.namespace, run.owner) for run in found] == [
        ("ml", "x"),
        ("web", "job-worker"),
        ("ml", "job"),
    ]


async def test_so_many_are_asked_at_once_that_dead_nodes_take_no_time_of_the_others() -> None:
    async with answering(None) as port:
        many = histories(port, ["127.0.0.2"] * 40, timeout_s=0.05)
        await asyncio.wait_for(many.collect(), PATIENT_S)
    assert many.outcomes["failed"] == 40


def recent() -> list[Run]:
    """Runs the last of which has just ended."""
    end = max(run.end for run in RUNS)
    now = time.time()
    return [msgspec.structs.replace(run, start=run.start - end + now - 10) for run in RUNS]


@asynccontextmanager
async def extender(api: WatchStub, learning: Learning) -> AsyncIterator[Service]:
    service = Service(Settings(address=("127.0.0.1", 0), learning=learning))
    serving = asyncio.ensure_future(service.run(Api(api.access)))
    try:
        yield service
    finally:
        serving.cancel()
        await asyncio.wait([serving])


async def shown(service: Service, *texts: str) -> str:
    """The metrics, as soon as they have all of these."""
    async with asyncio.timeout(PATIENT_S):
        while not all(one in service.metrics.registry.text() for one in texts):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return service.metrics.registry.text()


async def test_the_extender_finds_the_daemons_and_makes_its_model_of_what_they_give(
    tmp_path: Path,
) -> None:
    file = tmp_path / "model.json"
    with (
        daemons(page_of("n1", recent()), OFF) as (port, addresses),
        watch_stub() as api,
    ):
        for name, address in zip(("n1", "n2"), addresses, strict=True):
            api.put("nodes", node(name))
            api.put("pods", daemon_pod(name, address))
        access = Access(address=f"http://deviceplugin.kube-system:{port}", timeout_s=PATIENT_S)
        async with extender(api, Learning(histories=access, file=str(file))) as service:
            text = await shown(service, 'deviceplugin_scheduler_model{kind="age_seconds"}')
    assert 'deviceplugin_scheduler_histories{outcome="given"} 1' in text
    assert 'deviceplugin_scheduler_histories{outcome="off"} 1' in text
    assert "deviceplugin_scheduler_history_runs 40" in text
    model = decode(file.read_bytes())
    assert (model.runs, {run.owner for run in model.latest}) == (40, {"train", "infer", "sweep"})
    assert {run.peak_mib for run in model.latest} == {1000.0, 30_000.0}


async def test_each_interval_the_daemons_that_are_there_then_are_asked() -> None:
    with daemons(page_of("n1", recent())) as (port, (address,)), watch_stub() as api:
        api.put("nodes", node("n1"))
        access = Access(address=f"http://deviceplugin.kube-system:{port}", timeout_s=PATIENT_S)
        async with extender(api, Learning(histories=access, interval_s=0.05)) as service:
            await shown(service, 'deviceplugin_scheduler_histories{outcome="given"} 0')
            api.put("pods", daemon_pod("n1", address))
            await shown(service, 'deviceplugin_scheduler_model_silent{reason="none"} 0')


async def test_without_runs_of_nodes_there_is_no_model_and_that_is_in_log_and_metrics() -> None:
    with watch_stub() as api, structlog.testing.capture_logs() as logs:
        api.put("nodes", node("n1"))
        access = Access(address="http://deviceplugin.kube-system", timeout_s=PATIENT_S)
        async with extender(api, Learning(histories=access)) as service:
            text = await shown(service, 'deviceplugin_scheduler_histories{outcome="given"} 0')
    assert 'deviceplugin_scheduler_model_silent{reason="none"} 1' in text
    assert "scheduler_histories_missing" in [one["event"] for one in logs]


def test_by_hand_a_model_is_made_of_what_the_daemons_of_the_cluster_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with daemons(page_of("n1", recent())) as (port, (address,)), watch_stub() as api:
        for number in range(300):  # more than one page
            api.put("pods", daemon_pod(f"z{number:03}", ""))
        api.put("pods", daemon_pod("n1", address))
        monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, api))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        url = f"http://deviceplugin.kube-system:{port}"
        words = ["train", "--history", url, "--model", str(tmp_path / "m.json")]
        ran = CliRunner().invoke(scheduler_commands, words, catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        assert json.loads(ran.stdout)["runs"] == 40
        api.delete("pods", "deviceplugin-n1")
        with pytest.raises(DevicePluginError, match=r"no daemon gave runs: 0 given, 0 off"):
            CliRunner().invoke(scheduler_commands, words, catch_exceptions=False)


def kubeconfig(folder: Path, api: WatchStub) -> str:
    cluster = {
        "server": f"https://127.0.0.1:{api.access.port}",
        "certificate-authority": str(ACCOUNT / "ca.crt"),
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": TOKEN_OF_API}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "here",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document))
    return str(path)


@pytest.mark.parametrize(
    ("flags", "meant"),
    [
        (["--prometheus", "http://x"], r"--prometheus, --history.*one of them: both know the same"),
        (["--tenant", "t"], "--tenant.*daemons have none"),
        (["--runs", "f.csv"], r"--prometheus, --history, --runs.*one of them"),
    ],
)
def test_what_histories_do_not_go_with_is_refused(flags: list[str], meant: str) -> None:
    words = ["train", "--model", "m.json", "--history", "http://deviceplugin.kube-system", *flags]
    with pytest.raises(ConfigError, match=meant):
        CliRunner().invoke(scheduler_commands, words, catch_exceptions=False)
