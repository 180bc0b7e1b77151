"""`python -m tests.audit --tools BIN`: asks pip-audit and bandit; status 1 for a finding."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.audit.verdict import code_problems, package_verdict

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-all.lock", "requirements-build.lock")
TIMEOUT_S = 60


def main() -> int:
    """Print what was found and what could not be asked."""
    parser = argparse.ArgumentParser(prog="tests.audit")
    parser.add_argument("--tools", type=Path, required=True, help="folder of pip-audit and bandit")
    tools = parser.parse_args().tools
    found = [*audit_code(tools), *(line for lock in LOCKS for line in audit_packages(tools, lock))]
    for line in found:
        print(f"audit: {line}")
    print(f"audit: {len(found)} findings" if found else "audit: nothing found")
    return 1 if found else 0


def audit_packages(tools: Path, lock: str) -> list[str]:
    """Vulnerabilities of the versions in a lock; says of how many nothing is known."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [str(tools / "pip-audit"), "--require-hashes", "--disable-pip", "--timeout", "10"]
        command += ["-r", str(ROOT / lock), "--format", "json", "--output", str(answer)]
        try:
            ran = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
            said = ran.stderr
        except subprocess.TimeoutExpired:
            said = f"no answer within {TIMEOUT_S} s"
        text = answer.read_text() if answer.exists() else ""
    verdict = package_verdict(text, said)
    for line in verdict.unasked:
        print(f"audit: {lock}: NOT ASKED: {line}")
    if verdict.asked:
        print(f"audit: {lock}: {verdict.asked} packages asked about")
    return [f"{lock}: {line}" for line in verdict.found]


def audit_code(tools: Path) -> list[str]:
    """What bandit finds in the program, but for what is known with its reason."""
    command = [str(tools / "bandit"), "-q", "-r", "deviceplugin", "-c", "pyproject.toml", "-ll"]
    ran = subprocess.run(
        [*command, "-f", "json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if not ran.stdout:
        return [f"bandit did not run: {ran.stderr.strip()}"]
    return code_problems(json.loads(ran.stdout))


if __name__ == "__main__":
    sys.exit(main())
