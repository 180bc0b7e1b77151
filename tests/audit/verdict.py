"""What the tools' answers mean; pure."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

# What bandit finds (of medium severity and more) and is as it should be: file, rule, and why.
ACCEPTED: Mapping[tuple[str, str], str] = {
    ("deviceplugin/config/config.py", "B104"): "an address without a host is the operator's word",
    ("deviceplugin/config/yaml.py", "B506"): "the loader is a subclass of the safe one",
    (
        "deviceplugin/documents/profiling.py",
        "B108",
    ): "a folder that people name; it is used only where nobody else can write",
    (
        "deviceplugin/testing/hardware/values.py",
        "B314",
    ): "the XML is that of nvidia-smi on this machine",
    (
        "deviceplugin/vendors/nvidia/limits.py",
        "B108",
    ): "a path inside the container, which the library wants",
    ("deviceplugin/testing/hardware/steps.py", "B310"): "the URL is that of our own endpoint",
    (
        "deviceplugin/testing/hardware/tools.py",
        "B314",
    ): "nvidia-smi's XML, where a person asks",
    (
        "deviceplugin/vendors/nvidia/mps.py",
        "B108",
    ): "a mount of a container, no file of ours",
}


class Verdict(NamedTuple):
    """Vulnerabilities, what could not be asked with the reason, and how many packages were."""

    found: tuple[str, ...] = ()
    unasked: tuple[str, ...] = ()
    asked: int = 0


def package_verdict(answer: str, said: str) -> Verdict:
    """By pip-audit's JSON, or without one by the last line that it said: it fails alike for a
    vulnerability and for a network that is not there, but answers only in the first case."""
    if not answer:
        lines = said.strip().splitlines()
        return Verdict(unasked=(lines[-1] if lines else "pip-audit gave no answer",))
    packages: list[dict[str, Any]] = json.loads(answer)["dependencies"]
    found = [
        f"{one['name']} {one['version']}: {bug['id']}, fixed in {fixes(bug)}"
        for one in packages
        for bug in one.get("vulns", ())
    ]
    unasked = [one["skip_reason"] for one in packages if "skip_reason" in one]
    return Verdict(tuple(found), tuple(unasked), len(packages) - len(unasked))


def fixes(bug: Mapping[str, Any]) -> str:
    return ", ".join(bug.get("fix_versions") or ["no version yet"])


def code_problems(answer: Mapping[str, Any]) -> list[str]:
    """bandit's findings that are not accepted, and files that it could not read."""
    problems = [f"{one['filename']}: {one['reason']}" for one in answer["errors"]]
    for one in answer["results"]:
        name = one["filename"].removeprefix("./")
        if (name, one["test_id"]) not in ACCEPTED:
            problems.append(f"{name}:{one['line_number']}: {one['test_id']} {one['issue_text']}")
    return problems
