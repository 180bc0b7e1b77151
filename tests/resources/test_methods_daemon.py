"""A third party's way to share, its limits and its words in a daemon, with nothing else changed."""

import json
from pathlib import Path

import pytest

from deviceplugin.testing.tree import write_tree
from tests.rig import Rig, run_command
from tests.third_party.plugin import WELL_BEHAVED, install

MEMORY = "example.com/npu-memory"
SHARES = """

from deviceplugin.model import Isolation
from deviceplugin.vendor import Command, Program


class VnpuSection(Section, frozen=True):
    root: str = "/run/vnpu"


class Vnpu:
    TITLE, DEVICES, ADVICE = "vNPU", "whole Example NPUs", "see the log of vnpud"
    SETTINGS = VnpuSection

    def refusal(self, device):
        return None

    def isolation(self, share):
        return Isolation.PROCESS

    def prepare(self, host, sections):
        root = host.path(sections["sharing"].vnpu.root)

        def launch(shared):
            up = f"{root}/{shared.name}/up"
            return Program(
                arguments=("sh", "-c", f"touch {up}; exec sleep 600"),
                env={"PATH": "/usr/bin:/bin"},
                folders=(f"{root}/{shared.name}",),
                probe=Command(arguments=("test", "-e", up)),
            )

        return launch

    def edits(self, resource, settings):
        return ContainerEdits(env=frozen({"VNPU_ROOT": settings.root}))


SHARING = {"vnpu": Vnpu()}
SHARE_VARIABLES = ("EXAMPLE_MEMORY",)


class Npus(Vendor):
    def thing(self, name):
        return super().thing(name, noun="npu", memory_bytes=8 << 30)

    def share_edits(self, grants):
        specs = ",".join(f"vir{grant.count:02}" for grant in grants)
        limits = {v: str(g.memory_bytes) for g in grants for v in g.share.variables}
        return ContainerEdits(env=frozen({"SPECS": specs, **limits}))


Vendor = Npus
"""
RULES = {
    "rules": [
        {
            "match": {"vendor": "example"},
            "offers": [
                {"memory": {}, "sharing": "vnpu", "variables": ["EXAMPLE_MEMORY"]},
            ],
        }
    ]
}


async def test_a_third_partys_sharing_needs_no_change_here(rig: Rig, tmp_path: Path) -> None:
    packages = install(tmp_path / "packages", WELL_BEHAVED + SHARES)
    write_tree(rig.host_root, "/dev/example/0 c 240:0")
    config = rig.config(json.dumps(RULES))
    rig.start("--vendors", "example", "--config", str(config), PYTHONPATH=packages)
    await rig.allocatable({MEMORY: 8})
    await rig.daemons[-1].wait_event("vnpu_ready", resource=MEMORY)
    admission = await rig.stub.admit("p", {"c": {MEMORY: 3}})
    given = admission.of("c", MEMORY).answer.envs
    assert given["GPU_SHARE_ISOLATION"] == "process"
    assert given["GPU_SHARE_MEMORY_MIB"] == "thing-0=3072"
    assert given["VNPU_ROOT"] == "/run/vnpu"
    assert (given["SPECS"], given["EXAMPLE_MEMORY"]) == ("vir03", str(3 << 30))


@pytest.mark.slow  # it starts a process
def test_check_shows_the_methods_settings_and_refuses_a_wrong_word(tmp_path: Path) -> None:
    packages = install(tmp_path / "packages", WELL_BEHAVED + SHARES)
    shown = run_command("check", PYTHONPATH=packages)
    assert shown.returncode == 0
    assert "vnpu:\n    root: /run/vnpu" in shown.stdout
    path = tmp_path / "config.yaml"
    path.write_text("rules: [{offers: [{replicas: 2, sharing: vnpus}]}]")
    refused = run_command("check", "--config", str(path), PYTHONPATH=packages)
    assert refused.returncode == 2
    assert "rules[0].offers[0].sharing: 'vnpus' is not valid, expected one of" in refused.stderr
