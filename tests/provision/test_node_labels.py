"""Labels of the node by which others have GPUs partitioned: read, and answered."""

from pathlib import Path
from typing import Any

import pytest

from deviceplugin.daemon.partitions import Sources
from deviceplugin.kubernetes.api import ApiError
from deviceplugin.provision.node_labels import NodeLabels
from deviceplugin.provision.section import PartitioningSection
from deviceplugin.provision.standing import Standing

WISH, STATE = "nvidia.com/mig.config", "nvidia.com/mig.config.state"
DCM_WISH, DCM_STATE = "dcm.amd.com/gpu-config-profile", "dcm.amd.com/gpu-config-profile-state"
MIG_PARTED = """
version: v1
mig-configs:
  all-small: [{devices: all, mig-enabled: true, mig-devices: {1g.18gb: 7}}]
  all-disabled: [{devices: all, mig-enabled: false}]
"""
DCM = """
gpu-config-profiles:
  cpx:
    profiles: [{computePartition: CPX, memoryPartition: NPS1, numGPUsAssigned: 2}]
"""


class Node:
    """The API server's Node."""

    def __init__(self, **labels: str) -> None:
        self.labels: dict[str, str | None] = dict(labels)
        self.down = False

    def request(
        self, method: str, path: str, body: dict[str, Any] | None = None, kind: str = ""
    ) -> dict[str, Any]:
        assert path == "/api/v1/nodes/node-1"
        if self.down:
            raise ApiError("not now", 503)
        if method == "PATCH" and body is not None:
            assert kind == "application/merge-patch+json"
            self.labels |= body["metadata"]["labels"]
        return {"metadata": {"labels": {k: v for k, v in self.labels.items() if v is not None}}}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 60
        return self.now


def sources(node: Node) -> Sources:
    return Sources(NodeLabels(node, "node-1", Clock()))


def section(tmp_path: Path, text: str, **keys: Any) -> PartitioningSection:
    (tmp_path / "file.yaml").write_text(text)
    return PartitioningSection(file=str(tmp_path / "file.yaml"), **keys)


def standing(state: str, vendor: str = "nvidia") -> Standing:
    return Standing(gpu="G", vendor=vendor, product="", index=0, wish="", state=state)


async def test_the_label_names_the_entry(tmp_path: Path) -> None:
    node = Node(**{WISH: "all-small"})
    found = await sources(node).layouts(section(tmp_path, MIG_PARTED, labels=True))
    (layout,) = found.layouts
    assert layout.mig == {"1g.18gb": 7}


async def test_without_a_label_the_configuration_names_it(tmp_path: Path) -> None:
    given = section(tmp_path, MIG_PARTED, labels=True, layout="all-disabled")
    (layout,) = (await sources(Node()).layouts(given)).layouts
    assert layout.none


async def test_amds_profile_is_for_amds_gpus(tmp_path: Path) -> None:
    node = Node(**{DCM_WISH: "cpx"})
    (layout,) = (await sources(node).layouts(section(tmp_path, DCM, labels=True))).layouts
    assert (layout.select.vendor, layout.compute) == ("amd", "CPX")


async def test_a_name_that_is_no_entry_changes_nothing_and_is_told(tmp_path: Path) -> None:
    node = Node(**{WISH: "all-else"})
    found = await sources(node).layouts(section(tmp_path, MIG_PARTED, labels=True))
    assert found.layouts == ()
    assert "all-small" in found.problem


STATES = [
    ("as-wanted", "success"),
    ("change", "pending"),
    ("pending", "pending"),
    ("refused", "failed"),
    ("failed", "failed"),
]


@pytest.mark.parametrize(("state", "label"), STATES)
async def test_the_state_is_answered(tmp_path: Path, state: str, label: str) -> None:
    node = Node(**{WISH: "all-small"})
    one = sources(node)
    await one.layouts(section(tmp_path, MIG_PARTED, labels=True))
    await one.answer([standing(state), standing("failed", "intel")])
    assert node.labels[STATE] == label


async def test_amds_state_is_away_until_it_is_known(tmp_path: Path) -> None:
    node = Node(**{DCM_WISH: "cpx", DCM_STATE: "success"})
    one = sources(node)
    await one.layouts(section(tmp_path, DCM, labels=True))
    await one.answer([standing("change", "amd")])
    assert node.labels[DCM_STATE] is None
    await one.layouts(section(tmp_path, DCM, labels=True))
    await one.answer([standing("failed", "amd")])
    assert node.labels[DCM_STATE] == "failure"


async def test_nothing_is_written_where_no_label_asked(tmp_path: Path) -> None:
    node = Node()
    one = sources(node)
    await one.layouts(section(tmp_path, MIG_PARTED, labels=True, layout="all-small"))
    await one.answer([standing("as-wanted")])
    assert node.labels == {}


async def test_an_api_server_that_is_away_leaves_the_last_wish(tmp_path: Path) -> None:
    node = Node(**{WISH: "all-small"})
    one, given = sources(node), section(tmp_path, MIG_PARTED, labels=True)
    before = await one.layouts(given)
    node.down = True
    assert await one.layouts(given) == before
