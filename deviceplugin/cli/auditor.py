"""`deviceplugin compliance report`: this node is looked at once, for all standards asked for."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from deviceplugin.audit.query import parse_time
from deviceplugin.audit.record import time_text
from deviceplugin.audit.section import audit_section
from deviceplugin.cli.compliance import NAMES
from deviceplugin.cli.diagnose import looked
from deviceplugin.cli.output import load_here
from deviceplugin.compliance.controls import STANDARDS, standard_of, themes_of
from deviceplugin.compliance.evidence import AuditFacts, Facts
from deviceplugin.compliance.gather import read_audit
from deviceplugin.compliance.page import page_text
from deviceplugin.compliance.report import report, sources_of
from deviceplugin.compliance.section import Wanted, wanted
from deviceplugin.config.config import Config, Setting, parse_choice
from deviceplugin.config.effective import effective
from deviceplugin.errors import ConfigError
from deviceplugin.metrics.section import MetricsSection
from deviceplugin.runtime.files import own_directory, write_atomically
from deviceplugin.runtime.logs import configure_logs
from deviceplugin.schema import section_of
from deviceplugin.vendor import VendorModule

Document = dict[str, Any]
_OFF = "audit.enabled is false: nothing records who held which GPU"
_LOCAL = ("127.", "::1", "localhost")
_MODE = 0o640


class Asked(Struct, frozen=True, kw_only=True):
    """The command's own flags."""

    standard: str | None
    since: str
    form: str | None
    path: str | None
    directory: str | None


def run_report(flags: Mapping[str, str | None], asked: Asked) -> int:
    """Print or write the reports; the exit status: 1 where something violates a control."""
    configure_logs("critical", "console")  # what fails is a finding
    config, modules = load_here(flags)
    found = wanted(config.sections)
    standards = _standards(asked, found)
    form = asked.form or found.form
    if form == "pdf":
        _check_pdf(asked)
    facts = _facts(config, modules, asked.since, found.interval_s)
    themes = themes_of(found.controls)
    reports = [report(one, facts, themes) for one in standards]
    if asked.directory:
        click.echo(json.dumps(_written(Path(asked.directory), reports, form, facts)))
    else:
        _given_out(_content(reports[0], form), asked.path)
    return int(any(one["violations"] for one in reports))


def _standards(asked: Asked, found: Wanted) -> Sequence[str]:
    if asked.standard:
        return [parse_choice(Setting(standard_of(asked.standard), "--standard"), NAMES)]
    if asked.directory and found.standards:
        return found.standards
    what = "the standard, or --directory with compliance.standards in the configuration"
    raise ConfigError("--standard", "", f"{what}: {', '.join(STANDARDS)}")


def _check_pdf(asked: Asked) -> None:
    if not asked.path and not asked.directory:
        raise ConfigError("--format", "pdf", "json or html, or a file by --to")
    import deviceplugin.compliance.pdf  # noqa: F401, PLC0415  # before the node is looked at


def _facts(config: Config, modules: Sequence[VendorModule], since: str, span_s: float) -> Facts:
    now = time.time()
    began = _time(since) if since else time_text(now - span_s)
    section = audit_section(config.sections)
    log, problem = _log(config, began) if section.enabled else (None, _OFF)
    diagnosis, seen = looked(config, modules)
    return Facts(
        node=config.node_name,
        taken_at=now,
        since=began,
        version=version("deviceplugin"),
        configuration=effective(config),
        diagnosis=diagnosis,
        discover=seen,
        audit=log,
        audit_problem=problem,
        retention=section.retention,
        encrypted=_encrypted(config),
    )


def _time(text: str) -> str:
    try:
        return parse_time(text)
    except ValueError as error:
        raise ConfigError("--since", text, "a day as 2026-01-31, or a time") from error


def _log(config: Config, since: str) -> tuple[AuditFacts | None, str]:
    """What the log is, or why it tells nothing."""
    try:
        found = read_audit(config.state_dir, since)
    except OSError as error:
        return None, f"the audit log cannot be read: {error.strerror}"
    return found, "" if found else f"audit.enabled is true, and {config.state_dir} has no audit log"


def _encrypted(config: Config) -> bool | None:
    """Whether who is on the network meets TLS; None where nobody there is served."""
    address = config.metrics_address
    if address is None or address[0].startswith(_LOCAL):
        return None
    return bool(section_of(config.sections, "metrics", MetricsSection).certificate_file)


def _content(document: Document, form: str) -> bytes:
    if form == "pdf":
        from deviceplugin.compliance.pdf import pdf_bytes  # noqa: PLC0415  # an extra

        return pdf_bytes(document)
    if form == "html":
        return page_text(document).encode()
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _given_out(content: bytes, path: str | None) -> None:
    if path is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    try:
        with Path(path).open("xb") as file:
            file.write(content)
    except OSError as error:
        what = "a new file in a directory that can be written"
        raise ConfigError("--to", path, what, reason=str(error.strerror)) from error


def _written(directory: Path, reports: Sequence[Document], form: str, facts: Facts) -> Document:
    """Each report as JSON and in its form, and what their hashes are of; what was found, by
    standard."""
    found = {}
    try:
        own_directory(directory)
        at = reports[0]["taken_at"].replace(":", "")
        sources = json.dumps(sources_of(facts), sort_keys=True, default=str) + "\n"
        write_atomically(directory / f"sources-{at}.json", sources.encode(), _MODE)
        for one in reports:
            name = f"{one['standard']}-{one['taken_at'].replace(':', '')}"
            for kind in dict.fromkeys(("json", form)):
                content = _content(one, kind)
                write_atomically(directory / f"{name}.{kind}", content, _MODE)
            violations = [violation["text"] for violation in one["violations"]]
            found[one["standard"]] = {"file": f"{name}.{form}", "violations": violations}
    except OSError as error:
        raise ConfigError(
            "--directory", str(directory), "a directory of ours", reason=str(error.strerror)
        ) from error
    return found
