"""The commands about users' documents."""

import json
from pathlib import Path

import pytest
import yaml

from tests.rig import run_command

pytestmark = pytest.mark.slow
BLOCKS = Path(__file__).parent / "blocks"


def test_a_document_is_told_and_what_is_refused_ends_with_status_2() -> None:
    block = str(BLOCKS / "8.2.1.yaml")
    done = run_command("check", block)
    assert done.returncode == 2
    assert "VERDICT" in done.stdout
    assert "refused: data_protection.encryption.at_rest: " in done.stderr
    allowed = run_command("check", block, "--allow-unsupported", "--format", "json")
    assert allowed.returncode == 0
    assert "warning: data_protection.encryption.at_rest: " in allowed.stderr
    assert json.loads(allowed.stdout)["documents"][0]["kind"] == "configuration"


def test_one_key_is_explained() -> None:
    done = run_command("check", str(BLOCKS / "2.3.1.yaml"), "--explain", "cuda.runtime.memory_pool")
    assert done.returncode == 0
    assert "CUDA_MEMORY_POOL=true in containers" in done.stdout
    assert "cuda.version" not in done.stdout


def test_a_schema_and_roles_are_printed() -> None:
    assert json.loads(run_command("schema").stdout)["type"] == "object"
    path = str(BLOCKS / "8.1.1.yaml")
    done = run_command("render", "rbac", "--config", path, "--allow-unsupported")
    roles = list(yaml.safe_load_all(done.stdout))
    assert [role["metadata"]["name"] for role in roles] == ["gpu-admin", "gpu-user"]
