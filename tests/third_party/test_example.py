"""The example of a third party's package: built, installed elsewhere, checked, and served.

Nothing of this project knows it: what is proven here is that a vendor needs no other change.
"""

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import yaml

from deviceplugin.testing.tree import write_tree
from tests.rig import WAIT_S, Rig, environment, run_command

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/vendor"
NODE = EXAMPLE / "node.tree"
NPU = "acme.example/npu"
FIRST, SECOND, THIRD, FOURTH = (f"0000:0{n}:00.0" for n in range(1, 5))
HEALTH = f"/sys/bus/pci/devices/{FIRST}/health"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the built wheel is installed: a folder for PYTHONPATH, as in the image."""
    work = tmp_path_factory.mktemp("example")
    source = work / "source"
    shutil.copytree(EXAMPLE, source)
    _pip("wheel", "--no-build-isolation", "--wheel-dir", str(work), str(source))
    (wheel,) = work.glob("*.whl")
    _pip("install", "--target", str(work / "packages"), str(wheel))
    return str(work / "packages")


def _pip(command: str, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", command, "--quiet", "--no-deps", "--no-index", *arguments],
        check=True,
        timeout=WAIT_S,
        env=environment() | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )


@pytest.fixture
async def node(rig: Rig) -> Rig:
    """A node with the example's NPUs and a kubelet."""
    write_tree(rig.host_root, NODE.read_text())
    await rig.stub.start()
    return rig


def discovered(packages: str, root: Path, *flags: str) -> dict[str, Any]:
    arguments = ("--host-root", str(root), "--vendors", "acme", "--format", "json", *flags)
    ended = run_command("discover", *arguments, PYTHONPATH=packages)
    assert ended.returncode == 0, ended.stderr
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def test_it_is_listed_with_what_it_takes_up(packages: str) -> None:
    ended = run_command("vendors", "--format", "json", PYTHONPATH=packages)
    (acme,) = [v for v in json.loads(ended.stdout)["vendors"] if v["name"] == "acme"]
    assert (acme["package"], acme["version"], acme["module"]) == ("acme_npu", "1.0", "acme_npu")
    assert acme["sections"] == ["acme"]
    assert {"agents", "cdi_specs", "probe_health", "share_edits", "unchanged"} <= set(
        acme["methods"]
    )
    assert acme["attributes"] == ["CONTRACT", "SHARE_VARIABLES", "SHARING"]
    assert (acme["not_in_contract"], acme["error"]) == ([], None)


def test_it_keeps_the_contract_by_the_command(packages: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "deviceplugin.testing.contract", "acme", "--tree", str(NODE)],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
        env=environment() | {"PYTHONPATH": packages, "PYTHONOPTIMIZE": "2"},
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        0,
        "acme keeps to contract 1 (nodes looked at: 1)\n",
        "",
    )


def test_its_own_tests_pass(packages: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        check=True,
        timeout=WAIT_S,
        cwd=Path(packages).parent / "source",
        env=environment() | {"PYTHONPATH": packages},
    )


def test_discover_shows_its_devices_and_words(packages: str, tmp_path: Path) -> None:
    write_tree(tmp_path, NODE.read_text())
    report = discovered(packages, tmp_path)
    assert list(report["resources"]) == [NPU]
    assert [device["product"] for device in report["devices"]] == ["Acme A10"] * 4
    assert {link["kind"] for d in report["devices"] for link in d["links"]} == {"RING"}


def test_explain_follows_its_own_policy(packages: str, tmp_path: Path) -> None:
    write_tree(tmp_path, NODE.read_text())
    ended = run_command(
        *("explain", "--vendors", "acme", "--host-root", str(tmp_path), "--resource", NPU),
        *("--size", "2", "--available", f"{FIRST},{THIRD},{FOURTH}", "--format", "json"),
        PYTHONPATH=packages,
    )
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert document["policy"] == "acme_ring"
    assert set(document["chosen"]["ids"]) == {FIRST, FOURTH}


async def test_the_daemon_serves_it(packages: str, node: Rig) -> None:
    daemon = node.start("--config", str(node.config("acme: {cdi: true}")), PYTHONPATH=packages)
    await node.allocatable({NPU: 4})
    await node.stub.admit("pod", {"main": {NPU: 2}})
    given = node.stub.merged("pod", "main")
    assert set(given.devices) >= {"/dev/acme_ctl"}
    assert len(given.envs["ACME_VISIBLE_NPUS"].split(",")) == 2
    assert len(given.cdi_devices) == 2
    (node.cdi_dir / "acme.example-npu.json").stat()
    write_tree(node.host_root, f"{HEALTH} = 3 95 degrees")
    event = await daemon.wait_event("device_unhealthy", device=FIRST)
    assert event["action"].startswith("check the fans")
    await node.allocatable({NPU: 3})
    assert node.stub.violations == []


async def test_its_agent_is_listened_to(packages: str, node: Rig) -> None:
    path = node.host_root / "run/acme/health.sock"
    path.parent.mkdir(parents=True)
    async with agent(path, f"{THIRD} 7 ring port 1 has no light".encode()):
        daemon = node.start(PYTHONPATH=packages)
        event = await daemon.wait_event("fault", device=THIRD)
        assert (event["source"], event["code"]) == ("acme.agent", "ring_down")
        await node.allocatable({NPU: 3})


@contextlib.asynccontextmanager
async def agent(path: Path, message: bytes) -> AsyncIterator[None]:
    """Acme's agent, with one message for who asks."""

    async def watch(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield message
        await asyncio.Event().wait()

    handlers = {"Watch": grpc.unary_stream_rpc_method_handler(watch)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("acme.health.v1.Health", handlers)]
    )
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    yield
    await server.stop(None)


SHARED = """
rules:
  - match: {vendor: acme, uuid: "0000:04:00.0"}
    offers:
      - {replicas: 4, sharing: acme_part, variables: [ACME_CORES_PERCENT], name: acme.example/part}
  - match: {vendor: acme}
    offers: [{memory: {unit: 1GiB}}]
sharing: {acme_part: {program: PROGRAM}}
"""


async def test_it_shares_by_its_own_program_limits_and_noun(packages: str, node: Rig) -> None:
    program = shutil.which("sleep")
    assert program is not None
    config = node.config(SHARED.replace("PROGRAM", program))
    node.start("--config", str(config), PYTHONPATH=packages)
    await node.allocatable({"acme.example/part": 4, "acme.example/npu-memory": 96})
    await node.stub.admit("pod", {"main": {"acme.example/part": 1}})
    given = node.stub.merged("pod", "main").envs
    assert given["ACME_PART"] == "acme.example/part"
    assert given["ACME_CORES_PERCENT"] == "3=25"
    assert given["GPU_SHARE_ISOLATION"] == "process"


def test_a_rule_may_name_its_variables_and_no_others(packages: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(SHARED.replace("PROGRAM", "/bin/sh").replace("ACME_CORES_", "ACME_CORE_"))
    ended = run_command("check", "--config", str(path), PYTHONPATH=packages)
    assert ended.returncode == 2
    assert "ACME_CORES_PERCENT" in ended.stderr


async def test_a_reload_takes_its_section_up(packages: str, node: Rig) -> None:
    config = node.config("acme: {resource: npu}")
    daemon = node.start("--config", str(config), PYTHONPATH=packages)
    await node.allocatable({NPU: 4})
    config.write_text("acme: {resource: npu-x}")
    await node.allocatable({"acme.example/npu-x": 4})
    config.write_text("acme: {resorce: npu}")
    event = await daemon.wait_event("configuration_refused")
    assert "did you mean 'resource'?" in event["reason"]


def test_the_overlay_adds_its_image_and_mount() -> None:
    overlay = yaml.safe_load((EXAMPLE / "deploy/kustomization.yaml").read_text())
    assert (EXAMPLE / "deploy" / overlay["resources"][0] / "kustomization.yaml").exists()
    base = yaml.safe_load((ROOT / "deploy/daemonset.yaml").read_text().split("\n---\n")[-1])
    patch = yaml.safe_load((EXAMPLE / "deploy" / overlay["patches"][0]["path"]).read_text())
    assert patch["metadata"] == {k: base["metadata"][k] for k in ("name", "namespace")}
    (container,) = base["spec"]["template"]["spec"]["containers"]
    (patched,) = patch["spec"]["template"]["spec"]["containers"]
    assert patched["name"] == container["name"]
    image, _, version = container["image"].partition(":")
    assert overlay["images"][0]["name"] == image
    assert f"ARG DEVICEPLUGIN={image}:{version}\n" in (EXAMPLE / "Dockerfile").read_text()


def test_nothing_of_the_project_knows_it() -> None:
    known = [
        str(path.relative_to(ROOT))
        for folder in ("deviceplugin", "deploy", "protos")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".yaml", ".proto") and "acme_npu" in path.read_text()
    ]
    assert known == []
