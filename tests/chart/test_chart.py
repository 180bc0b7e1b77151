"""The Helm chart: what it renders is what kubectl builds of deploy/ for the same choice."""

import importlib.metadata
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from deviceplugin.cli.fleet_cost import read_costs
from deviceplugin.config.load import load
from tests.chart.files import CHART, DEPLOY, sources

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("helm") is None or shutil.which("kubectl") is None,
        reason="no helm and kubectl: `make chart` brings both",
    ),
]

NAMESPACE = "kube-system"
OF_HELM = {"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/instance"}
KEYS = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}


class Choice(msgspec.Struct, frozen=True):
    """Values, and the components and patches of the kustomization that mean the same."""

    values: Mapping[str, Any]
    components: Sequence[str] = ()
    patches: Sequence[str] = ()


def on(*names: str) -> dict[str, bool]:
    return dict.fromkeys(names, True)


CHOICES = {
    "default": Choice({}),
    "amd": Choice({"vendors": ["amd"]}, ["only-amd"]),
    "intel": Choice({"vendors": ["intel"]}, ["only-intel"]),
    "nvidia": Choice({"vendors": ["nvidia"]}, ["only-nvidia"]),
    "hardened": Choice(
        {"components": on("hardened"), "vendors": ["amd"]}, ["hardened", "only-amd"]
    ),
    "selinux": Choice({"components": on("selinux")}, ["selinux"]),
    "writers": Choice({"components": on("config-writers")}, ["config-writers"]),
    "tls": Choice({"components": on("metrics-tls")}, ["metrics-tls"]),
    "review": Choice(
        {"components": on("metrics-tls", "metrics-review")},
        ["account", "metrics-tls", "metrics-review"],
    ),
    "events": Choice({"components": on("events")}, ["events"]),
    "labels": Choice({"components": on("labels", "labels-taint")}, ["labels", "labels-taint"]),
    "labels by the API": Choice({"components": on("labels-api")}, ["account", "labels-api"]),
    "processes": Choice({"components": on("processes")}, ["processes"]),
    "dra": Choice({"components": on("dra")}, ["account", "dra"]),
    "dra and events": Choice({"components": on("dra", "events")}, ["events", "dra"]),
    "enforcement": Choice({"components": on("enforcement")}, ["enforcement"]),
    "enforcement by a helper, and partitions": Choice(
        {"components": on("enforcement-helper", "partitions")}, ["enforcement-helper", "partitions"]
    ),
    "partitions by labels": Choice(
        {"components": on("partitions", "partitions-labels")},
        ["account", "partitions", "partitions-labels"],
    ),
    "facts": Choice({"components": on("facts")}, ["account", "facts"]),
    "a node's configuration by the API": Choice(
        {"components": on("config-label-api")}, ["account", "config-label-api"]
    ),
    "a node's configuration by a file": Choice(
        {"components": on("config-label-file")}, ["config-label-file"]
    ),
    "MPS": Choice(
        {"runtimeClassName": "nvidia", "patches": on("nvidia-mps")},
        patches=["nvidia", "nvidia-mps"],
    ),
    "CRI-O and agents": Choice(
        {"patches": on("crio", "agent-amd", "agent-intel", "agent-nvidia", "intel-links")},
        patches=["crio", "agent-amd", "agent-intel", "agent-nvidia", "intel-links"],
    ),
}


def run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def template(tmp_path: Path, values: Mapping[str, Any], *flags: str) -> list[Any]:
    """All objects but the hooks'."""
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(dict(values)))
    text = run("helm", "template", "gpus", CHART, "-n", NAMESPACE, "-f", file, *flags)
    return [one for one in yaml.safe_load_all(text) if one and not is_hook(one)]


def is_hook(one: Any) -> bool:
    return "helm.sh/hook" in one["metadata"].get("annotations", {})


def kustomized(tmp_path: Path, choice: Choice) -> list[Any]:
    folder = tmp_path / "deploy"
    shutil.copytree(DEPLOY, folder, ignore=shutil.ignore_patterns("charts"))
    document = yaml.safe_load((folder / "kustomization.yaml").read_text())
    document["components"] += [f"components/{name}" for name in choice.components]
    document["patches"] = [{"path": f"patches/{name}.yaml"} for name in choice.patches]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(document))
    return list(yaml.safe_load_all(run("kubectl", "kustomize", folder)))


def plain(value: Any, key: str = "") -> Any:
    """Without Helm's labels, and lists that have keys by them."""
    if isinstance(value, dict):
        return {
            name: plain(one, name)
            for name, one in value.items()
            if name not in OF_HELM and not (name == "labels" and set(one) <= OF_HELM)
        }
    if isinstance(value, list):
        items = [plain(one) for one in value]
        return sorted(items, key=lambda one: str(one[KEYS[key]])) if key in KEYS else items
    return value


def by_name(objects: Iterable[Any]) -> dict[tuple[str, str], Any]:
    return {(one["kind"], one["metadata"]["name"]): plain(one) for one in objects}


def test_the_copies_are_those_of_deploy() -> None:
    pairs = list(sources())
    assert {copy for _, copy in pairs} == {p for p in (CHART / "files").rglob("*") if p.is_file()}
    for file, copy in pairs:
        assert file.read_bytes() == copy.read_bytes(), f"{copy}: run `make chart-files`"


@pytest.mark.parametrize("name", CHOICES)
def test_it_renders_what_kubectl_builds(name: str, tmp_path: Path) -> None:
    choice = CHOICES[name]
    assert by_name(template(tmp_path, choice.values)) == by_name(kustomized(tmp_path, choice))


def test_every_component_and_patch_can_be_chosen() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = msgspec.json.decode((CHART / "values.schema.json").read_bytes())["properties"]
    folders = {path.name for path in (DEPLOY / "components").iterdir()}
    by_vendors = {"only-amd", "only-intel", "only-nvidia"}
    assert set(values["components"]) == folders - by_vendors - {"account", "namespace"}
    assert set(values["components"]) == set(schema["components"]["properties"])
    files = {path.stem for path in (DEPLOY / "patches").iterdir()}
    assert set(values["patches"]) == files - {"nvidia"}  # runtimeClassName
    assert set(values["patches"]) == set(schema["patches"]["properties"])
    assert set(values) == set(schema) - {"global"}


def test_the_versions_are_those_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = importlib.metadata.version("deviceplugin")
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_lint_finds_nothing() -> None:
    run("helm", "lint", "--strict", CHART)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"vendors": ["nvidea"]}, "vendors"),
        ({"component": {}}, "component"),
        ({"components": {"lables": True}}, "lables"),
        ({"kubeletDir": "var/lib"}, "kubeletDir"),
        ({"image": {"digest": "sha256:abc"}}, "digest"),
        ({"fleet": {"report": {"store": "prometheus:9090"}}}, "store"),
        ({"fleet": {"report": {"schedule": "daily"}}}, "schedule"),
        ({"fleet": {"plan": {"store": "prometheus:9090"}}}, "store"),
        ({"fleet": {"budget": {"costs": {"costs.yaml": {}}}}}, "costs"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(
    values: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=told):
        template(tmp_path, values)
    schema = msgspec.json.decode((CHART / "values.schema.json").read_bytes())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema)


def pod_of(objects: Iterable[Any]) -> Any:
    (one,) = [one for one in objects if one["kind"] == "DaemonSet"]
    return one["spec"]["template"]["spec"]


@pytest.mark.parametrize("folder", ["/var/lib/k0s/kubelet", "/var/snap/microk8s/common/kubelet/"])
def test_another_kubelet_directory_is_used_everywhere(folder: str, tmp_path: Path) -> None:
    values = {"kubeletDir": folder, "components": on("dra")}
    pod = pod_of(template(tmp_path, values))
    text = yaml.safe_dump(pod)
    assert "/var/lib/kubelet" not in text
    variables = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert variables["DEVICEPLUGIN_KUBELET_DIR"] == folder.rstrip("/")
    volumes = {one["name"]: one for one in pod["volumes"]}
    place = volumes["device-plugins"]["hostPath"]["path"]
    assert place == f"{folder.rstrip('/')}/device-plugins"


def test_what_a_person_sets_of_the_pod_is_there(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "image": {"repository": "registry.example/gpu", "digest": "sha256:" + "a" * 64},
        "imagePullSecrets": [{"name": "pull"}],
        "resources": {"requests": {"cpu": "50m"}},
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "podAnnotations": {"a/b": "c"},
        "extraEnv": [{"name": "DEVICEPLUGIN_LOG_LEVEL", "value": "debug"}],
        "vendors": ["amd", "intel"],
    }
    objects = template(tmp_path, values)
    pod = pod_of(objects)
    container = pod["containers"][0]
    assert container["image"] == "registry.example/gpu@sha256:" + "a" * 64
    assert container["resources"] == values["resources"]
    assert pod["nodeSelector"] == values["nodeSelector"]
    assert pod["tolerations"] == values["tolerations"]
    assert pod["affinity"] == values["affinity"]
    assert pod["imagePullSecrets"] == values["imagePullSecrets"]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert variables["DEVICEPLUGIN_LOG_LEVEL"] == "debug"
    assert variables["DEVICEPLUGIN_VENDORS"] == "amd,intel"
    (one,) = [one for one in objects if one["kind"] == "DaemonSet"]
    assert one["spec"]["template"]["metadata"]["annotations"] == {"a/b": "c"}


def test_the_configuration_is_the_values_and_what_components_add(tmp_path: Path) -> None:
    config = {"config.yaml": {"health": {"agents": False}}, "more.yaml": "log_level: debug\n"}
    objects = template(tmp_path, {"config": config, "components": on("events")})
    (data,) = [one["data"] for one in objects if one["kind"] == "ConfigMap"]
    assert data.keys() == {"config.yaml", "more.yaml", "kubernetes.yaml"}
    folder = tmp_path / "config"
    folder.mkdir()
    for name, text in data.items():
        (folder / name).write_text(text)
    loaded, _ = load({"config": str(folder)})
    assert loaded.log_level == "debug"


def test_a_configuration_is_checked_before_it_is_installed(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump({"config": {"config.yaml": {"vendors": ["amd"]}}}))
    text = run("helm", "template", "gpus", CHART, "-n", NAMESPACE, "-f", file)
    hooks = {one["kind"]: one for one in yaml.safe_load_all(text) if one and is_hook(one)}
    assert set(hooks) == {"ConfigMap", "Job", "Pod"}
    assert hooks["ConfigMap"]["data"] == {"config.yaml": "vendors:\n- amd\n"}
    for kind in ("ConfigMap", "Job"):
        annotations = hooks[kind]["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
    (container,) = hooks["Job"]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["check", "--config", "/etc/deviceplugin"]
    assert hooks["Pod"]["metadata"]["annotations"]["helm.sh/hook"] == "test"


def test_the_test_pod_asks_for_the_resource(tmp_path: Path) -> None:
    text = run(
        *("helm", "template", "gpus", CHART, "-n", NAMESPACE),
        *("--set", "test.resource=nvidia.com/gpu", "--show-only", "templates/tests/node.yaml"),
    )
    (container,) = yaml.safe_load(text)["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_scheduler_and_monitoring_come_with_it(tmp_path: Path) -> None:
    values = {
        "scheduler": {"enabled": True},
        "monitoring": {"podMonitor": True, "rules": True, "dashboards": True},
        "image": {"repository": "registry.example/gpu", "tag": "1"},
    }
    objects = template(tmp_path, values)
    kinds = [one["kind"] for one in objects]
    assert {"Deployment", "PodMonitor", "PrometheusRule"} <= set(kinds)
    (deployment,) = [one for one in objects if one["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/gpu:1"
    boards = [o for o in objects if "grafana_dashboard" in o["metadata"].get("labels", {})]
    assert {name for one in boards for name in one["data"]} == {
        path.name for path in (DEPLOY / "monitoring").glob("*.json")
    }
    for one in boards:
        for text in one["data"].values():
            assert msgspec.json.decode(text)["panels"]


def test_a_report_of_the_fleet_is_the_manifest_s_with_what_is_asked_for(tmp_path: Path) -> None:
    plain_job = yaml.safe_load((DEPLOY / "fleet/cronjob.yaml").read_text())
    (default,) = cron_jobs(template(tmp_path, {"fleet": {"report": {"enabled": True}}}))
    assert plain(default) == plain(plain_job)
    report = {
        "enabled": True,
        "store": "https://thanos",
        "schedule": "@weekly",
        "args": ["--days=7"],
    }
    values = {"fleet": {"report": report}, "image": {"repository": "registry.example/gpu"}}
    (asked,) = cron_jobs(template(tmp_path, values))
    (container,) = asked["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert asked["spec"]["schedule"] == "@weekly"
    assert container["args"] == ["fleet", "report", "--store", "https://thanos", "--days=7"]
    assert container["image"].startswith("registry.example/gpu:")


def test_a_plan_is_the_manifest_s_and_asks_the_report_s_store_by_default(tmp_path: Path) -> None:
    plain_job = yaml.safe_load((DEPLOY / "fleet/cronjob-plan.yaml").read_text())
    (default,) = cron_jobs(template(tmp_path, {"fleet": {"plan": {"enabled": True}}}))
    assert plain(default) == plain(plain_job)
    report = {"store": "https://thanos"}
    plan = {"enabled": True, "schedule": "@daily", "args": ["--growth=10"]}
    (asked,) = cron_jobs(template(tmp_path, {"fleet": {"report": report, "plan": plan}}))
    assert asked["spec"]["schedule"] == "@daily"
    assert args_of(asked) == ["fleet", "plan", "--store", "https://thanos", "--growth=10"]


@pytest.mark.parametrize("as_text", [False, True])
def test_budgets_are_the_manifest_s_with_the_prices_of_the_values(
    tmp_path: Path, *, as_text: bool
) -> None:
    plain_job = yaml.safe_load((DEPLOY / "fleet/cronjob-budget.yaml").read_text())
    plain_map = yaml.safe_load((DEPLOY / "fleet/costs.yaml").read_text())
    text = plain_map["data"]["costs.yaml"]
    costs = text if as_text else yaml.safe_load(text)
    budget = {"enabled": True, "costs": costs}
    objects = template(tmp_path, {"fleet": {"budget": budget}})
    (job,) = cron_jobs(objects)
    assert plain(job) == plain(plain_job)
    (prices,) = [one for one in objects if one["metadata"]["name"] == "deviceplugin-costs"]
    assert plain(prices["metadata"]) == plain(plain_map["metadata"])
    for name, content in (("given.yaml", text), ("rendered.yaml", prices["data"]["costs.yaml"])):
        (tmp_path / name).write_text(content)
    given, rendered = (str(tmp_path / name) for name in ("given.yaml", "rendered.yaml"))
    assert read_costs(rendered) == read_costs(given)


def test_budgets_without_prices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"fleet\.budget\.costs: budgets need prices"):
        template(tmp_path, {"fleet": {"budget": {"enabled": True}}})


def cron_jobs(objects: Iterable[Any]) -> list[Any]:
    return [one for one in objects if one["kind"] == "CronJob"]


def args_of(job: Any) -> list[str]:
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    args: list[str] = container["args"]
    return args


def test_every_container_of_ours_has_the_release_s_image(tmp_path: Path) -> None:
    values = {
        "components": on("partitions"),
        "patches": on("nvidia-mps", "nvidia-mps-directories"),
        "image": {"repository": "registry.example/gpu", "tag": "2", "pullPolicy": "Always"},
    }
    pod = pod_of(template(tmp_path, values))
    containers = [*pod["initContainers"], *pod["containers"]]
    assert len(containers) == 3
    assert {(o["image"], o["imagePullPolicy"]) for o in containers} == {
        ("registry.example/gpu:2", "Always")
    }


def test_an_upgrade_and_a_rollback_change_what_the_values_change(tmp_path: Path) -> None:
    before = by_name(template(tmp_path, {}))
    after = by_name(template(tmp_path, {"components": on("events")}))
    again = by_name(template(tmp_path, {}))
    assert before == again
    added = after.keys() - before.keys()
    assert {kind for kind, _ in added} == {"ServiceAccount", "ClusterRole", "ClusterRoleBinding"}
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {("DaemonSet", "deviceplugin"), ("ConfigMap", "deviceplugin")}
