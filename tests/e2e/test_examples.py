"""The example pods on a node of a real cluster: taken by the API server, seen in the containers."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.examples import EXAMPLES, GIVEN, jetson, pod_spec, requests, three_vendors
from tests.e2e.cluster import ClusterNode, kubectl, until

pytestmark = pytest.mark.timeout(900)
# For all examples that it suits; those that divide GPUs differently have their own.
SHARED = "\n".join(
    given.config
    for given in GIVEN.values()
    if given.node is three_vendors and "rules" not in given.config
)
LOOK = 'env; find /dev -type c; exec "$@"'


def config_of(path: Path) -> str:
    """The daemon's configuration for an example."""
    given = GIVEN[path.stem]
    return SHARED if given.node is three_vendors and "rules" not in given.config else given.config


BY_CONFIG: list[Path] = sorted(EXAMPLES, key=config_of)


@pytest.fixture(scope="module")
def own_config(cluster_node: ClusterNode) -> Iterator[None]:
    """The node has the configuration of deploy/ again after the examples."""
    before = cluster_node.config()
    yield
    cluster_node.configure(before)


def example_pod(path: Path, node: ClusterNode) -> dict[str, Any]:
    """The pod of an example, that of a Deployment too, which prints first what it sees."""
    manifest: dict[str, Any] = yaml.safe_load(path.read_text())
    spec = pod_spec(manifest)
    (container,) = spec["containers"]
    wanted = {name for name, _ in requests(container)}
    absent = wanted - node.resources("allocatable").keys()
    if absent:
        pytest.skip(f"the node has no {', '.join(sorted(absent))}")
    if "busybox" in container["image"]:
        container["image"] = node.pod_image
    container["command"] = ["sh", "-c", LOOK, "sh", *container["command"]]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": path.stem}, "spec": spec}


def missing(path: Path, lines: Sequence[str]) -> list[str]:
    """Variables and nodes that the example's container should see and does not."""
    given = GIVEN[path.stem]
    here = given.node is not jetson  # with a server's GPU it has other values and nodes
    ends = {name: (end or "") if here else "" for name, end in given.env.items()}
    unset = [
        name
        for name, end in ends.items()
        if not any(line.startswith(f"{name}=") and line.endswith(end) for line in lines)
    ]
    nodes = given.nodes if here else ()
    return [*unset, *(n for n in nodes if not any(line.startswith(n) for line in lines))]


@pytest.mark.usefixtures("own_config")
@pytest.mark.parametrize("path", BY_CONFIG, ids=lambda path: path.stem)
def test_an_example_pod_sees_its_devices_and_ends_well(
    cluster_node: ClusterNode, path: Path
) -> None:
    """What a Deployment makes does not end."""
    cluster_node.configure(config_of(path))
    with cluster_node.pod(example_pod(path, cluster_node)) as name:
        if yaml.safe_load(path.read_text())["kind"] == "Deployment":
            cluster_node.main(name)
        else:
            ended = until(
                lambda: {"Succeeded", "Failed"} & {cluster_node.pod_status(name)["phase"]},
                "it ends",
            )
            assert ended == {"Succeeded"}, kubectl("logs", name)
        until(lambda: not missing(path, kubectl("logs", name).splitlines()), "it sees its devices")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_api_server_takes_an_example_as_it_is(cluster_node: ClusterNode, path: Path) -> None:
    kubectl("apply", "--dry-run=server", "-f", str(path))
