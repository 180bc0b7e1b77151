"""What a node pays for agents that it does not have."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import deviceplugin.vendors.amd.agent, deviceplugin.vendors.intel.agent
import deviceplugin.vendors.nvidia.agent
print(*(name for name in sys.modules if "exporter_" in name or name.startswith("google.protobuf")))
"""


@pytest.mark.slow
def test_without_an_answer_no_messages_are_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
