"""The suite as a command."""

import argparse
import asyncio
import os
import shlex
import sys
from math import inf
from pathlib import Path
from typing import NoReturn

from deviceplugin.kubelet.socket import is_listening
from deviceplugin.testing.conformance.report import FORMATS
from deviceplugin.testing.conformance.runner import Result, run_suite
from deviceplugin.testing.conformance.settings import Settings
from deviceplugin.testing.conformance.verdict import Outcome, checklist
from deviceplugin.testing.stalesocket import SOCKET_PATH_MAX_BYTES

FAILED_STATUS, USAGE_STATUS, LOST_STATUS = 1, 2, 3


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        self.exit(USAGE_STATUS, f"{self.prog}: {message} (see --help)\n")


def main(argv: list[str] | None = None) -> int:
    """Run the suite and write its report: 0, or 1 where a line failed, 2 for bad usage, 3 where
    none failed but lines were lost."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if problem := _problem(arguments):
        parser.error(problem)
    result = asyncio.run(run_suite(_settings(arguments)))
    report = FORMATS[arguments.format](result)
    if arguments.output is None:
        sys.stdout.write(report)
    else:
        arguments.output.write_text(report, encoding="utf-8")
    return status_of(result)


def status_of(result: Result) -> int:
    """The exit status of a run."""
    if result.count(Outcome.FAIL):
        return FAILED_STATUS
    return LOST_STATUS if result.count(Outcome.LOST) else 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m deviceplugin.testing.conformance",
        description="Judge a device plugin by what it does on the kubelet's sockets.",
        epilog="Exit status: 0, 1 where a line failed, 2 for bad usage, 3 where none failed but"
        " lines were lost.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--kubelet-dir", type=Path, required=True, help="where the plugin looks for a kubelet"
    )
    parser.add_argument("--format", choices=sorted(FORMATS), default="text")
    parser.add_argument("--output", type=Path, help="a file; standard output without it")
    _add_plugin(parser)
    _add_node(parser)
    _add_limits(parser)
    return parser


def _add_plugin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "command", nargs="*", help="after --: starts the plugin, which the suite ends and restarts"
    )
    parser.add_argument(
        "--restart",
        type=_restart,
        default=1.0,
        metavar="S",
        help="seconds until a plugin that ends by itself is started again, or never; 1",
    )
    parser.add_argument("--pid", type=int, help="the process of a plugin that runs already")
    parser.add_argument(
        "--resource", action="append", default=[], help="to wait for (may be repeated)"
    )
    parser.add_argument(
        "--line", type=int, action="append", default=[], help="to be judged (may be repeated)"
    )
    parser.add_argument("--readiness-url", help="the plugin's readiness probe, http://…")


def _add_node(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host-root", type=Path, default=Path("/"), help="where host paths are")
    parser.add_argument("--cdi-dir", type=Path, help="where CDI specs are")
    parser.add_argument(
        "--break", dest="break_command", type=shlex.split, default=[], help="makes a device fail"
    )
    parser.add_argument(
        "--breaks", action="append", default=[], help="a resource of that device (may be repeated)"
    )
    parser.add_argument(
        "--mend", dest="mend_command", type=shlex.split, default=[], help="makes it well again"
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--slack", type=float, default=1.0, help="factor on every time limit")
    parser.add_argument("--restarts", type=int, default=100, help="kubelet restarts in a row")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds to wait for anything")
    parser.add_argument("--call-timeout", type=float, default=10.0, help="seconds until one hangs")


def _restart(text: str) -> float | None:
    if text == "never":
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < inf:
        raise argparse.ArgumentTypeError(f"{text!r} is neither seconds nor never")
    return seconds


def _settings(arguments: argparse.Namespace) -> Settings:
    return Settings(
        kubelet_dir=arguments.kubelet_dir.absolute(),
        command=tuple(arguments.command),
        pid=arguments.pid,
        resources=tuple(arguments.resource),
        lines=frozenset(arguments.line),
        host_root=arguments.host_root,
        cdi_dir=arguments.cdi_dir,
        break_command=tuple(arguments.break_command),
        mend_command=tuple(arguments.mend_command),
        breaks=tuple(arguments.breaks),
        readiness_url=arguments.readiness_url,
        restart_s=arguments.restart,
        slack=arguments.slack,
        restarts=arguments.restarts,
        timeout_s=arguments.timeout,
        call_timeout_s=arguments.call_timeout,
    )


def _problem(arguments: argparse.Namespace) -> str:
    """Why there can be no run; above all not on a node with a kubelet."""
    directory = arguments.kubelet_dir.absolute()
    sockets = [directory / name / "kubelet.sock" for name in ("device-plugins", "pod-resources")]
    for path in sockets:
        if len(os.fsencode(path)) > SOCKET_PATH_MAX_BYTES:
            return f"{path} is longer than {SOCKET_PATH_MAX_BYTES} bytes: take a shorter directory"
        if is_listening(path):
            return f"a kubelet listens on {path}: take another directory"
    if (directory / "device-plugins" / "kubelet_internal_checkpoint").exists():
        return f"{directory} is the directory of a node's kubelet: take another one"
    if arguments.readiness_url and not arguments.readiness_url.startswith(("http://", "https://")):
        return f"--readiness-url {arguments.readiness_url} does not begin with http:// or https://"
    if strange := sorted(set(arguments.line) - {line.number for line in checklist()}):
        return f"--line {strange[0]} is not in the checklist"
    positive = {"slack": arguments.slack, "restarts": arguments.restarts}
    positive |= {"timeout": arguments.timeout, "call-timeout": arguments.call_timeout}
    wrong = [name for name, value in positive.items() if not value > 0]
    return f"--{wrong[0]} has to be more than 0" if wrong else ""
