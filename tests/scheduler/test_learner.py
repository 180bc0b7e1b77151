"""Models made from time to time: where the runs are from, the file that keeps them, and the
commands that do it by hand."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner

from deviceplugin.cli.scheduler import scheduler_commands
from deviceplugin.cli.scheduler_config import asking_of_file
from deviceplugin.errors import ConfigError, DevicePluginError
from deviceplugin.learning.model import decode, encode
from deviceplugin.learning.runs import Run
from deviceplugin.learning.settings import Learning
from deviceplugin.metrics.store import Access
from deviceplugin.scheduler.learner import Learner
from deviceplugin.scheduler.service import Service, Settings
from tests.learning.jobs import jobs

RUNS = list(jobs(200))
NOW = max(run.end for run in RUNS)
SECTION = """
ai_scheduler:
  enabled: true
  model: gpu-scheduler-v2
  features: [workload_prediction]
  training: {interval: 30m, data_retention: 10d, model_version: v2.1}
  inference: {batch_size: 50, timeout: 500ms, fallback: round_robin}
"""


def csv_of(runs: Sequence[Run]) -> str:
    head = "namespace,owner,container,start,seconds,peak_mib,busy_ratio\n"
    rows = (
        f"{r.namespace},{r.owner},{r.container},{r.start},{r.seconds},{r.peak_mib},{r.busy_ratio}"
        for r in runs
    )
    return head + "\n".join(rows) + "\n"


def run(*words: str) -> str:
    ran = CliRunner().invoke(scheduler_commands, words)
    if isinstance(ran.exception, DevicePluginError):
        raise ran.exception
    assert ran.exit_code == 0, ran.output
    return ran.output


def test_a_model_is_kept_in_its_file_over_restarts(tmp_path: Path) -> None:
    settings = Learning(file=str(tmp_path / "model.json"), version="v2.1")
    assert Learner(settings).stored() is None
    made = Learner(settings, lambda: NOW).learn(RUNS)
    assert made is not None
    assert made.version == "v2.1"
    assert Learner(settings).stored() == made
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]


def test_a_file_that_is_no_model_or_cannot_be_written_is_told_and_outlived(tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    file.write_text("{}")
    with structlog.testing.capture_logs() as logs:
        assert Learner(Learning(file=str(file))).stored() is None
        nowhere = Learner(Learning(file=str(tmp_path / "no/model.json")), lambda: NOW)
        assert nowhere.learn(RUNS) is not None
    assert [one["event"] for one in logs] == ["scheduler_model_refused", "scheduler_model_not_kept"]


def test_a_prometheus_that_does_not_answer_is_told_once_and_leaves_the_model_as_it_is() -> None:
    learner = Learner(Learning(prometheus=Access(address="http://127.0.0.1:1")), lambda: NOW)
    with structlog.testing.capture_logs() as logs:
        assert learner.learn(RUNS) is None
        assert learner.learn(RUNS) is None
    assert [one["event"] for one in logs] == ["scheduler_learning_failed"]


def test_runs_of_before_the_retention_are_not_learned_from() -> None:
    learner = Learner(Learning(retention_s=86_400), lambda: NOW)
    made = learner.learn(RUNS)
    assert made is not None
    assert made.runs == sum(run.end >= NOW - 86_400 for run in RUNS) < len(RUNS)


def test_the_service_takes_the_stored_model_and_stays_with_it_while_there_are_few_runs(
    tmp_path: Path,
) -> None:
    file = tmp_path / "model.json"
    made = Learner(Learning(file=str(file)), lambda: NOW).learn(RUNS)
    assert made is not None
    service = Service(Settings(address=("127.0.0.1", 0), learning=Learning(file=str(file))))

    async def until_taken() -> None:
        task = asyncio.create_task(service._learn())
        while 'kind="runs"' not in service.metrics.registry.text():
            assert not task.done()
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(until_taken())
    text = service.metrics.registry.text()
    assert 'deviceplugin_scheduler_model_silent{reason="old"} 1' in text
    assert decode(file.read_bytes()) == made


def test_the_section_says_how_often_from_what_and_how_long(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(SECTION)
    assert asking_of_file(str(file)).learning == Learning(
        interval_s=1800,
        retention_s=864_000,
        batch=50,
        timeout_s=0.5,
        name="gpu-scheduler-v2",
        version="v2.1",
    )
    file.write_text("ai_scheduler: {enabled: false}")
    assert asking_of_file(str(file)).learning is None
    file.write_text("ai_scheduler: {}")
    assert asking_of_file(str(file)).learning == Learning(
        interval_s=3600, retention_s=30 * 86_400, batch=100, timeout_s=5
    )


@pytest.mark.parametrize(
    ("old", "new", "meant"),
    [
        ("30m", "30s", r"ai_scheduler\.training\.interval.*1m at least"),
        ("10d", "0d", r"training\.data_retention.*a time above 0"),
        ("10d", "1.2.3d", r"training\.data_retention.*a time such as"),
        ("batch_size: 50", "batch_size: 0", r"inference\.batch_size.*1 at least"),
        ("round_robin", "random", r"inference\.fallback.*round_robin"),
    ],
)
def test_a_key_that_says_nothing_that_can_be_done_is_told(
    tmp_path: Path, old: str, new: str, meant: str
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(SECTION.replace(old, new))
    with pytest.raises(ConfigError, match=meant):
        asking_of_file(str(file))


@pytest.mark.parametrize(
    ("flags", "meant"),
    [
        (["--model", "m.json"], "--model.*with a section ai_scheduler"),
        (["--prometheus", "http://x"], "--prometheus.*with a section ai_scheduler"),
        (["--prometheus", "x:9090", "--config", "CONFIG"], "--prometheus.*a URL such as"),
        (["--token-file", "x"], "--token-file.*with a section ai_scheduler"),
        (
            ["--prometheus", "http://x", "--ca-file", "/none", "--config", "CONFIG"],
            "--ca-file.*No such file",
        ),
    ],
)
def test_a_flag_of_learning_needs_the_section_and_a_url(
    tmp_path: Path, flags: list[str], meant: str
) -> None:
    (tmp_path / "config.yaml").write_text(SECTION)
    with pytest.raises(ConfigError, match=meant):
        run(*(str(tmp_path / "config.yaml") if flag == "CONFIG" else flag for flag in flags))


def test_a_model_is_made_by_hand_and_shown(tmp_path: Path) -> None:
    runs, model = tmp_path / "runs.csv", tmp_path / "model.json"
    runs.write_text(csv_of(RUNS))
    told = run("train", "--runs", str(runs), "--model", str(model))
    assert run("model", str(model)) == told
    shown = json.loads(told)
    assert (shown["runs"], shown["judged"]["runs"]) == (200, 40)
    assert shown["latest"].endswith(" runs of 6 groups")
    assert encode(decode(model.read_bytes())) == model.read_bytes()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("namespace,owner\nml,a\n", "start, seconds.*expected the columns"),
        ("namespace,owner,start,seconds\nml,a,soon,5\n", "line 2: start.*soon.*a number from 0"),
        ("namespace,owner,start,seconds\nml,a,1,nan\n", "line 2: seconds.*nan"),
        ("namespace,owner,start,seconds\nml,a,1,5\n", "1 runs were found; a model needs 30"),
    ],
)
def test_runs_that_are_none_or_too_few_are_told(tmp_path: Path, text: str, meant: str) -> None:
    runs = tmp_path / "runs.csv"
    runs.write_text(text)
    with pytest.raises(DevicePluginError, match=meant):
        run("train", "--runs", str(runs), "--model", str(tmp_path / "model.json"))


def test_what_is_asked_wrongly_is_told(tmp_path: Path) -> None:
    (tmp_path / "no.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"--prometheus, --history, --runs.*one of them"):
        run("train", "--model", "m.json")
    with pytest.raises(ConfigError, match=r"no\.json"):
        run("model", str(tmp_path / "no.json"))
    with pytest.raises(ConfigError, match="--runs"):
        run("train", "--runs", str(tmp_path / "nowhere"), "--model", "m.json")
