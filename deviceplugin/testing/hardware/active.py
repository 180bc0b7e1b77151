"""The short active test of one GPU, by the daemon that runs here: it uses the GPU for 15 s, and
only where no kubelet can have given it to a pod."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from deviceplugin.testing.hardware.daemon import Running, environment
from deviceplugin.testing.hardware.verdict import Check, agree, differ, not_available

NAME = "active test"
LIMIT_S = 150.0
FREE_S = 60.0  # what was allocated by a check before is free in the ledger by then
AGAIN_S = 5.0
_KUBELET = "var/lib/kubelet/pod-resources/kubelet.sock"
Document = dict[str, Any]


async def active_check(node: Running, host_root: Path, gpus: Sequence[str]) -> Check:
    """Of the first of these GPUs."""
    if (host_root / _KUBELET).exists():
        return not_available(NAME, "a kubelet runs here: pods may hold GPUs")
    if not gpus:
        return not_available(NAME, "no whole GPU")
    until_s = time.monotonic() + FREE_S
    while True:
        said = await asyncio.to_thread(_ask, node, host_root, gpus[0])
        if isinstance(said, str):
            return differ(NAME, said)
        if not _is_held(said) or time.monotonic() > until_s:
            return check_of(said)
        await asyncio.sleep(AGAIN_S)


def check_of(document: Document) -> Check:
    """What the command found: a GPU that could not be tested is no difference."""
    told = list(_told(document))
    verdicts = {one["verdict"] for one in document["checks"]}
    if "fail" in verdicts:
        return differ(NAME, *told)
    if verdicts & {"pass", "warn"}:
        return agree(NAME, *told)
    return not_available(NAME, "; ".join(dict.fromkeys(told)))


def _told(document: Document) -> Iterator[str]:
    for one in document["checks"]:
        yield f"{one['check']} {one['verdict']}: {one['value']}"


def _is_held(document: Document) -> bool:
    return any("in use by" in one["value"] for one in document["checks"])


def _ask(node: Running, host_root: Path, gpu: str) -> Document | str:
    command = [sys.executable, "-m", "deviceplugin", "diagnose", "--active", "--short"]
    places = [f"--host-root={host_root}", f"--state-dir={node.state_dir}"]
    try:
        done = subprocess.run(  # noqa: S603  # our own module
            [*command, *places, f"--device={gpu}", "--format=json"],
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
            env=environment(),
        )
        found = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return f"it did not end within {LIMIT_S:g} s"
    except ValueError:
        return " ".join(done.stderr.decode("utf-8", "replace").split())[-300:]
    return dict(found)
