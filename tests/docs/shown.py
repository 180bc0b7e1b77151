"""The commands that the documents show, and why some of them are run by no test."""

import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

_BLOCK = re.compile(r"(?ms)^```(?:console|sh|bash|shell)\n(.*?)^```$")
ACME = "needs the page's own vendor; tests/third_party installs one"
# The first words of a command, and why it is not run here. The longest that fits is used.
NOT_RUN = {
    "cd deploy && kustomize": "changes the repository; tests/deploy builds what it edits",
    "cosign": "needs a registry and a certificate authority",
    "deviceplugin discover --vendors acme": ACME,
    "deviceplugin fleet plan": "needs a store; tests/fleet runs it with a real Prometheus",
    "deviceplugin profile team/train": "needs a pod at work; tests/profiling has one",
    "deviceplugin provision": "serves until it is ended; tests/provision runs it",
    "deviceplugin simulate --prometheus": "needs a Prometheus; tests/simulate has its answers",
    "deviceplugin status --watch": "shows until it is ended; tests/page runs it",
    "curl": "needs Prometheus; tests/cost asks one where it is installed",
    "deviceplugin fleet": "needs a fleet's history, which tests/cost, advice and fleet have",
    "deviceplugin maintenance": "needs a fleet's past; tests/maintenance has one",
    "docker": "needs a builder; tests/project runs the Dockerfile's steps that are Python's",
    "done": "ends a loop",
    "export": "sets variables for the line after it",
    "for file in": "begins a loop of a container; tests/enforcement reads those files",
    "helm": "needs a cluster; `make chart` renders and compares it",
    "kubectl": "needs a cluster; tests/e2e and `make chart` do it",
    "make": "the pipeline runs them, in `.ci/run` or by hand",
    "openssl": "not a part of this project",
    "promtool": "Prometheus' own; tests/alerts runs it where it is installed",
    "python -m bench": "measures for minutes",
    "python -m deviceplugin.testing.conformance": "takes minutes; tests/conformance runs it",
    "python -m deviceplugin.testing.contract acme_gpus": ACME,
    "python -m deviceplugin.testing.hardware": "asks real GPUs; tests/testing replays captures",
    "unshare": "needs another vendor's plugin",
    "while IFS": "a loop of a container; tests/enforcement reads those files",
    "xdg-open": "needs a screen",
    ".venv/bin/python -m pytest": "tests/e2e needs a cluster",
    ".venv/bin/python -m deviceplugin.testing.hardware.replay": "tests/captures replays them",
    "KUBELET=": "needs a kubelet and containerd",
}
# What of the commands that are run ends otherwise than with 0 in the surroundings of the test.
OTHERWISE = {
    "deviceplugin diagnose": {0, 1},  # the node of the test is no whole machine
    "deviceplugin preflight": {1},  # nor has it a CUDA driver
    "deviceplugin audit verify january-31.jsonl": {0, 1},  # of a day without a record
    "deviceplugin compliance report": {0, 1},  # as above
}


class Shown(Struct, frozen=True):
    """A command as it is typed, without its prompt."""

    page: str
    text: str

    @property
    def why_not(self) -> str:
        """Why no test runs it; empty where one does."""
        fits = [words for words in NOT_RUN if self.text.startswith(words)]
        return NOT_RUN[max(fits, key=len)] if fits else ""

    @property
    def statuses(self) -> set[int]:
        """The exit statuses that are right."""
        fits = [words for words in OTHERWISE if self.text.startswith(words)]
        return OTHERWISE[max(fits, key=len)] if fits else {0}


def shown_in(page: Path, root: Path) -> Iterator[Shown]:
    """Each command of a page's blocks; in a console block they are the lines with a prompt."""
    for block in _BLOCK.findall(page.read_text()):
        joined = block.replace("\\\n", " ")
        has_prompts = re.search(r"(?m)^[$#] ", joined)
        for line in joined.splitlines():
            prompt, text = (line[:2], line[2:]) if has_prompts else ("$ ", line)
            command = re.sub(r"\s+#.*$|\s+", " ", text).strip()
            if prompt in {"$ ", "# "} and command:
                yield Shown(str(page.relative_to(root)), inside(command))


def inside(command: str) -> str:
    """What runs in the daemon's container, where it is asked through kubectl."""
    asked = re.fullmatch(r"kubectl .*exec \S+ -- (deviceplugin .*)", command)
    return asked[1].replace(" /host", ' "$DEVICEPLUGIN_HOST_ROOT"') if asked else command
