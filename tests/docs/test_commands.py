"""Every command that a document shows is run, on a simulated node, or is listed with its reason."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deviceplugin.cli.learning import train_once
from tests.docs.shown import NOT_RUN, OTHERWISE, Shown, shown_in
from tests.rig import WAIT_S, Rig, environment, nvidia_node, rig_below
from tests.scheduler.objects import node as of_kubectl
from tests.scheduler.objects import pod as a_pod

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SHOWN = sorted({(s.text, s.page) for page in PAGES for s in shown_in(page, ROOT)})
COMMANDS = [Shown(page, text) for text, page in SHOWN]
RUN = [shown for shown in COMMANDS if not shown.why_not]
CONFIG = "audit:\n  enabled: true\ndra:\n  enabled: true\n"
SECURITY = "security: {access_control: {roles: [{name: gpu-user, permissions: [use]}]}}\n"
LAYOUTS = """\
version: v1
mig-configs:
  all-balanced:
    - {devices: all, mig-enabled: true, mig-devices: {1g.5gb: 2, 2g.10gb: 1, 3g.20gb: 1}}
"""
NODES = "sn,cpu_milli,memory_mib,gpu,model\nnode-1,64000,262144,2,T4\n"
PODS = """\
name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,\
scheduled_time
pod-1,4000,8192,1,500,,LS,Running,0,100,0
"""
RUNS = "namespace,owner,start,seconds\n" + "".join(f"ml,a,{n * 90},60\n" for n in range(40))


def test_what_is_not_run_is_shown_somewhere() -> None:
    for words in (*NOT_RUN, *OTHERWISE):
        assert any(shown.text.startswith(words) for shown in COMMANDS), words


def test_pages_show_commands_that_are_run() -> None:
    assert len(RUN) > 15


def listed(item: object) -> str:
    return json.dumps({"kind": "List", "items": [item]})


def write_files(directory: Path) -> None:
    """The files that the pages speak of."""
    (directory / "config.yaml").write_text(CONFIG)
    (directory / "policy.yaml").write_text(CONFIG)
    (directory / "security.yaml").write_text(SECURITY)
    (directory / "policies").mkdir()
    (directory / "policies" / "policy.yaml").write_text(CONFIG)
    (directory / "layouts.yaml").write_text(LAYOUTS)
    (directory / "nodes.csv").write_text(NODES)
    (directory / "nodes.json").write_text(listed(of_kubectl("node-1")))
    made = a_pod("train", gpus=1)
    made["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    (directory / "pods.json").write_text(listed(made))
    (directory / "pods.csv").write_text(PODS)
    (directory / "runs.csv").write_text(RUNS)
    of = {"runs": str(directory / "runs.csv"), "prometheus": None, "history": None}
    train_once(of, str(directory / "model.json"), 30)


def variables_of(rig: Rig) -> dict[str, str]:
    places = {
        "CONFIG": rig.root / "config.yaml",
        "HOST_ROOT": rig.host_root,
        "KUBELET_DIR": rig.kubelet_dir,
        "CDI_DIR": rig.cdi_dir,
        "STATE_DIR": rig.state_dir,
    }
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    return {f"DEVICEPLUGIN_{key}": str(at) for key, at in places.items()} | {"PATH": path}


@pytest.fixture
async def node(short_dir: Path) -> AsyncIterator[Rig]:
    async with rig_below(short_dir) as rig:
        nvidia_node(rig)
        write_files(short_dir)
        await rig.stub.start()
        daemon = rig.start("--config", str(short_dir / "config.yaml"))
        await daemon.wait_event("metrics_served")
        await rig.stub.wait_for(
            lambda: len(rig.stub.capacity()) > 1, timeout_s=WAIT_S, what="resources"
        )
        yield rig


@pytest.mark.slow
async def test_a_command_that_is_shown_does_what_it_should(node: Rig) -> None:
    wrong = []
    for shown in RUN:
        done = await asyncio.to_thread(run, shown.text, node)
        if done.returncode not in shown.statuses or "Traceback" in done.stderr:
            wrong.append(f"{shown.page}: {shown.text}: {done.returncode}: {done.stderr[-500:]}")
    assert not wrong, "\n".join(wrong)


def run(text: str, rig: Rig) -> subprocess.CompletedProcess[str]:
    """As a person would, in bash."""
    return subprocess.run(
        ["/bin/bash", "-c", text],  # the documents are ours
        capture_output=True,
        text=True,
        timeout=2 * WAIT_S,
        check=False,
        cwd=rig.root,
        env=environment() | variables_of(rig),
    )
