"""A node's label by the API server, and a daemon whose node gets another one."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType

import pytest
import yaml
from structlog.testing import capture_logs

from deviceplugin.config.config import Config
from deviceplugin.kubernetes.api import Access, ApiError
from deviceplugin.per_node.follow import follow
from deviceplugin.per_node.labels import read_labels
from deviceplugin.per_node.section import LABEL, PerNodeSection
from deviceplugin.per_node.service import PerNodePart
from tests.deploy.test_manifests import load
from tests.kubernetes.stub import ApiStub, api_stub
from tests.rig import WAIT_S, Rig, two_a100

FOLLOWED = PerNodeSection(labels="api")


@pytest.fixture
def api() -> Iterator[ApiStub]:
    with api_stub() as stub:
        yield stub


def config(state: Path, section: PerNodeSection = FOLLOWED) -> Config:
    sections = MappingProxyType({"per_node": section})
    return Config(node_name="node-1", state_dir=state, sections=sections)


def test_the_label_that_counts_is_kept_and_no_other(api: ApiStub, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    api.node["metadata"]["labels"] = {LABEL: "edge", "other": "x"}
    assert follow("node-1", LABEL, tmp_path, lambda: api.access)
    assert read_labels(tmp_path / "node-labels") == {LABEL: "edge"}
    assert not follow("node-1", LABEL, tmp_path, lambda: api.access)
    api.node["metadata"]["labels"] = {}
    assert follow("node-1", LABEL, tmp_path, lambda: api.access)
    assert read_labels(tmp_path / "node-labels") == {}


def test_what_cannot_be_asked_is_as_it_was(api: ApiStub, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "node-labels").write_text(f'{LABEL}="edge"\n')
    api.refused["GET /api/v1/nodes"] = 403
    with pytest.raises(ApiError):
        follow("node-1", LABEL, tmp_path, lambda: api.access)
    assert read_labels(tmp_path / "node-labels") == {LABEL: "edge"}


async def running(part: PerNodePart, done: Callable[[], object]) -> None:
    (run,) = part.tasks().values()
    task = asyncio.ensure_future(run())
    try:
        async with asyncio.timeout(WAIT_S):
            while not done():  # noqa: ASYNC110  # counts of a stub
                await asyncio.sleep(0.005)
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_new_label_has_the_configuration_read_again(api: ApiStub, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    asked: list[int] = []
    part = PerNodePart(config(tmp_path), lambda: asked.append(1), lambda: api.access)
    part.look_s = 0.005
    await running(part, lambda: asked)
    before = len(api.requests)
    await running(part, lambda: len(api.requests) > before + 2)
    assert len(asked) == 1  # nothing new since
    api.node["metadata"]["labels"] = {LABEL: "edge"}
    await running(part, lambda: len(asked) == 2)


async def test_off_nobody_is_asked(api: ApiStub, tmp_path: Path) -> None:
    part = PerNodePart(config(tmp_path, PerNodeSection()), lambda: None, lambda: api.access)
    part.look_s = 0.005
    (run,) = part.tasks().values()
    task = asyncio.ensure_future(run())
    await asyncio.sleep(0)
    await part.use(config(tmp_path, PerNodeSection()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert api.requests == []


async def test_an_error_of_the_api_server_is_told_once(tmp_path: Path) -> None:
    def nowhere() -> Access:
        calls.append(1)
        raise ApiError("no API server is known")

    calls: list[int] = []
    part = PerNodePart(config(tmp_path), lambda: None, nowhere)
    part.look_s = 0.005
    with capture_logs() as logs:
        await running(part, lambda: len(calls) > 2)
    (told,) = logs
    assert told["event"] == "node_labels_unknown"
    assert told["reason"] == "no API server is known"


def test_the_overlay_may_read_nodes_and_nothing_else() -> None:
    path = Path(__file__).parents[2] / "deploy/components/config-label-api/rbac.yaml"
    role, binding = yaml.safe_load_all(path.read_text())
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_the_projected_volume_has_the_same_configuration_and_the_labels() -> None:
    (volume,) = load("components/config-label-file/daemonset.yaml")["spec"]["template"]["spec"][
        "volumes"
    ]
    base = load("daemonset.yaml")["spec"]["template"]["spec"]["volumes"]
    (config_map,) = [one["configMap"] for one in base if one["name"] == volume["name"]]
    settings, labels = volume["projected"]["sources"]
    assert settings == {"configMap": config_map}
    (item,) = labels["downwardAPI"]["items"]
    assert item == {"path": "node-labels", "fieldRef": {"fieldPath": "metadata.labels"}}


@pytest.mark.slow
async def test_a_daemon_follows_its_label_and_keeps_the_last_good_one(rig: Rig) -> None:
    two_a100(rig.host_root)
    folder = rig.root / "etc"
    folder.mkdir()
    labels = folder / "node-labels"
    fleet = {"shared": {"rules": [{"offers": [{"replicas": 3}]}]}, "plain": {}}
    document = {"per_node": {"default": "plain", "configurations": fleet}}
    (folder / "config.yaml").write_text(yaml.safe_dump(document))
    await rig.stub.start()
    daemon = rig.start("--config", str(folder))
    await rig.allocatable({"nvidia.com/gpu": 2})
    assert (await daemon.wait_event("node_configuration"))["chosen"] == "plain, by default"
    labels.write_text(f'{LABEL}="shared"\n')
    await rig.allocatable({"nvidia.com/gpu": 6})
    labels.write_text(f'{LABEL}="nobody"\n')
    refused = await daemon.wait_event("configuration_refused")
    assert "'nobody' is not valid, expected one of per_node.configurations" in refused["reason"]
    assert rig.stub.allocatable()["nvidia.com/gpu"] == 6
    labels.write_text(f'{LABEL}="plain"\n')
    await rig.allocatable({"nvidia.com/gpu": 2})
