"""deploy/scheduler fits the command, and kube-scheduler's file fits the extender."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from deviceplugin.alerts.of_scheduler import SCHEDULER
from deviceplugin.cli import cli
from deviceplugin.cli.scheduler import ADDRESS
from deviceplugin.cli.scheduler_config import asking_of_file
from deviceplugin.kubernetes.api import Access, Api
from deviceplugin.learning.settings import Learning
from deviceplugin.metrics.store import Access as StoreAccess
from deviceplugin.scheduler.extender import Extender
from deviceplugin.scheduler.histories import PATH, Place, daemons_of
from deviceplugin.scheduler.notes import Notes
from deviceplugin.scheduler.objects import Pod, Reading
from deviceplugin.scheduler.service import Service, Settings
from deviceplugin.scheduler.state import Cluster
from deviceplugin.scheduler.watch import Watch
from tests.rig import run_command
from tests.scheduler.test_watch import NODES

DEPLOY = Path(__file__).parents[2] / "deploy/scheduler"
PORT = int(ADDRESS.rpartition(":")[2])


def load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def test_the_deployment_runs_the_command_where_it_listens() -> None:
    spec = load("deployment.yaml")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert spec["replicas"] == 2
    assert container["args"][0] in cli.commands
    assert container["ports"][0]["containerPort"] == PORT
    services = [load("service.yaml"), load("replicas.yaml")]
    assert [one["spec"].get("clusterIP") for one in services] == [None, "None"]
    for service in services:
        assert service["spec"]["ports"][0]["port"] == PORT
        assert service["spec"]["selector"].items() <= (
            spec["template"]["metadata"]["labels"].items()
        )


def test_it_may_read_what_it_watches_and_write_events_and_nothing_else() -> None:
    role, binding = yaml.safe_load_all((DEPLOY / "rbac.yaml").read_text())
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["list", "watch"]},
        {
            "apiGroups": ["resource.k8s.io"],
            "resources": ["resourceslices", "resourceclaims", "deviceclasses"],
            "verbs": ["list", "watch"],
        },
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
    ]
    account = load("account.yaml")["metadata"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", **account}]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl to build with")
@pytest.mark.slow
def test_the_component_for_learning_asks_the_daemons_as_they_are_deployed(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path / "s")
    with (tmp_path / "s/kustomization.yaml").open("a") as file:
        file.write("components: [learning]\n")
    command = ["kubectl", "kustomize", str(tmp_path / "s")]
    objects = list(yaml.safe_load_all(subprocess.check_output(command, text=True)))
    by_kind = {f"{one['kind']}/{one['metadata']['name']}": one for one in objects}
    (container,) = by_kind["Deployment/deviceplugin-scheduler"]["spec"]["template"]["spec"][
        "containers"
    ]
    command_word, events, *words = container["args"]
    assert (command_word, events) == ("scheduler", "--events")
    given = dict(word.removeprefix("--").split("=", 1) for word in words)
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {given["config"], str(Path(given["model"]).parent)} == mounts
    (name, text), *_ = by_kind["ConfigMap/deviceplugin-scheduler"]["data"].items()
    (tmp_path / name).write_text(text)
    assert asking_of_file(str(tmp_path / name)).learning == Learning()
    daemonset = yaml.safe_load((DEPLOY.parent / "daemonset.yaml").read_text())
    (port,) = daemonset["spec"]["template"]["spec"]["containers"][0]["ports"]
    pod = {**daemonset["spec"]["template"], "status": {"podIP": "10.0.0.1"}}
    pod["metadata"] |= {"namespace": daemonset["metadata"]["namespace"]}
    pod["spec"] = {"nodeName": "n1"}
    access = StoreAccess(address=given["history"])
    found = daemons_of(access).places([msgspec.convert(pod, Pod)])
    assert found == [Place("n1", "10.0.0.1")]
    assert access.parts().port == port["containerPort"]
    role = by_kind["ClusterRole/deviceplugin-runs-reader"]
    assert role["rules"] == [{"nonResourceURLs": [PATH], "verbs": ["get"]}]


def test_alerts_and_the_dashboard_ask_for_metrics_that_there_are() -> None:
    learning = Learning(histories=StoreAccess(address="http://deviceplugin.kube-system"))
    service = Service(Settings(address=("127.0.0.1", 0), events=True, learning=learning))
    assert service._histories is not None
    service._histories.outcomes = {"given": 1}
    api = Api(Access(host="127.0.0.1", port=1))
    service._notes = Notes(api)
    service.watches._all = [Watch(api, NODES, lambda *_: None)]
    text = service.metrics.registry.text()
    there = set(re.findall(r"(?m)^# TYPE (\S+)", text))
    (group,) = load("prometheusrule.yaml")["spec"]["groups"]
    shown = [query.expr for panel in SCHEDULER for query in panel.queries]
    for expr in (*shown, *(rule["expr"] for rule in group["rules"])):
        named = set(re.findall(r"deviceplugin_scheduler_\w+", expr))
        assert named
        assert {name.removesuffix("_bucket") for name in named} <= there
    for rule in group["rules"]:
        assert {"summary", "description"} == rule["annotations"].keys()


def test_kube_scheduler_is_told_of_verbs_that_are_there() -> None:
    config = load("scheduler-config.yaml")
    (extender,) = config["extenders"]
    verbs = Extender(Cluster(Reading(), lambda: 0.0)).verbs
    assert {extender[f"{verb}Verb"] for verb in verbs} == set(verbs)
    assert extender["urlPrefix"].endswith(f".kube-system.svc:{PORT}")
    assert extender["ignorable"]
    assert extender["nodeCacheCapable"]
    assert config["percentageOfNodesToScore"] == 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--address", "here"), "--address: 'here' is not valid, expected HOST:PORT"),
        (("--address", ""), "--address: '' is not valid, expected HOST:PORT"),
        (("--shares", "a.b/c"), "RESOURCE=NUMBER, the number from 1 to 1000"),
        (("--shares", "a.b/c=1001"), "RESOURCE=NUMBER, the number from 1 to 1000"),
        (("--dra-drivers", "GPU"), "--dra-drivers: 'GPU' is not valid, expected names of drivers"),
        (("--key", "key.pem"), "both --certificate and --key, or none"),
        (("--certificate", "/no/file", "--key", "/no/file"), "--certificate: '/no/file'"),
        (("--log-level", "loud"), "--log-level: 'loud' is not valid, expected one of debug"),
    ],
    ids=["address", "nothing", "share", "large share", "driver", "key", "no file", "level"],
)
def test_a_flag_that_is_none_is_told(flags: tuple[str, ...], told: str) -> None:
    done = run_command("scheduler", *flags)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr


@pytest.mark.slow
def test_outside_a_cluster_it_says_what_it_lacks() -> None:
    done = run_command("scheduler")
    assert done.returncode == 1
    assert "no API server is known" in done.stderr


@pytest.mark.slow
def test_explain_without_an_extender_is_one_line() -> None:
    done = run_command("scheduler", "explain", "ml/p", "--address", "127.0.0.1:1")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "127.0.0.1:1" in done.stderr
