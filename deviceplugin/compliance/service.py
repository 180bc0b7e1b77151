"""Reports of compliance as a part of the daemon: written now and then, by a process of its own.

A report reads the whole audit log and looks at the node anew: in a process of its own that takes
nothing of the daemon's memory, and what hangs there hangs nobody here.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog

from deviceplugin.metrics.registry import Family
from deviceplugin.runtime.part import Collector, Once, Part, Sectioned
from deviceplugin.runtime.waking import woken

if TYPE_CHECKING:  # who asks for no reports does not pay for them
    from deviceplugin.compliance.runs import Found
    from deviceplugin.compliance.section import Wanted

log = structlog.get_logger()
DIRECTORY = "compliance"  # in the state directory
AGAIN_S = 600.0  # after a report that failed


class OfNode(Sectioned, Protocol):
    """A configuration with what the command needs to look at the same node."""

    @property
    def node_name(self) -> str:
        """In Kubernetes."""

    @property
    def state_dir(self) -> Path:
        """Ours."""

    @property
    def host_root(self) -> Path:
        """The host's."""

    @property
    def trusted_dirs(self) -> tuple[str, ...]:
        """Folders of the host from which the sections may name files."""

    @property
    def allow_unsupported(self) -> bool:
        """Whether what cannot be done is told, not refused."""

    @property
    def kubelet_dir(self) -> Path:
        """The kubelet's."""

    @property
    def cdi_dir(self) -> Path:
        """Of CDI files."""


class CompliancePart(Part[OfNode]):
    """Has reports written while its section asks for them; `program` is the command without its
    arguments, `file` the configuration's, `now` gives Unix seconds."""

    def __init__(
        self,
        config: OfNode,
        file: Path | None,
        now: Callable[[], float],
        program: Sequence[str] = (sys.executable, "-m", "deviceplugin"),
    ) -> None:
        self._config, self._file, self._now, self._program = config, file, now, program
        self._changed = asyncio.Event()
        self._found: Mapping[str, Sequence[str]] = {}
        self._problem = ""

    def tasks(self) -> Mapping[str, Once]:
        """The reports."""
        return {"compliance": self._run}

    async def use(self, config: OfNode) -> None:
        """By the new section from now on."""
        if config.sections.get("compliance") != self._config.sections.get("compliance"):
            self._found, self._problem = {}, ""
        self._config = config
        self._changed.set()

    def remark(self) -> str:
        """What violates a control, or that there is no report."""
        if self._problem:
            return f"the report of compliance is not written: {self._problem}"
        found = {text for texts in self._found.values() for text in texts}
        return f"{len(found)} violations of compliance: {min(found)}" if found else ""

    def collectors(self) -> Mapping[str, Collector]:
        """Nothing before the first report."""
        return {"compliance": self}

    def collect(self) -> Iterator[Family]:
        """Violations of each standard that is reported."""
        if not self._found and not self._problem:
            return
        family = Family(
            "deviceplugin_compliance_violations",
            "gauge",
            "What violates a control of the standard, by its last report",
            ("standard",),
        )
        for standard, texts in self._found.items():
            family.add((standard,), float(len(texts)))
        yield family
        failing = Family(
            "deviceplugin_compliance_failing", "gauge", "1 while no report can be written"
        )
        failing.add((), float(bool(self._problem)))
        yield failing

    async def _run(self) -> None:
        while True:
            wait_s = await self._turn() if "compliance" in self._config.sections else None
            await woken(self._changed, wait_s)

    async def _turn(self) -> float | None:
        """Report where it is time; in how many seconds to look again."""
        from deviceplugin.compliance.runs import due_in_s  # noqa: PLC0415  # where it is on
        from deviceplugin.compliance.section import wanted  # noqa: PLC0415

        asked = wanted(self._config.sections)
        if not asked.reports or self._file is None:
            return None
        directory = self._config.state_dir / DIRECTORY
        wait_s = await asyncio.to_thread(due_in_s, directory, asked, self._now())
        if wait_s > 0 and (self._found or self._problem):
            return wait_s
        if wait_s > 0:  # a daemon that was started anew knows what the last reports say
            return await self._recalled(directory, asked, wait_s)
        return await self._report(directory, asked)

    async def _recalled(self, directory: Path, asked: "Wanted", wait_s: float) -> float:
        from deviceplugin.compliance.runs import recalled  # noqa: PLC0415  # as above

        self._take(await asyncio.to_thread(recalled, directory, asked), asked)
        return wait_s

    async def _report(self, directory: Path, asked: "Wanted") -> float:
        from deviceplugin.compliance.runs import NotReportedError, expire, run  # noqa: PLC0415  # as above

        try:
            found = await run([*self._program, *self._arguments(directory)])
        except NotReportedError as error:
            self._problem = str(error)
        else:
            self._problem = ""
        if self._problem:
            log.error("compliance_not_reported", reason=self._problem, again_s=AGAIN_S)
            return AGAIN_S
        await asyncio.to_thread(expire, directory)
        self._take(found, asked)
        log.info("compliance_reported", standards=sorted(found), directory=str(directory))
        return asked.interval_s

    def _arguments(self, directory: Path) -> Sequence[str]:
        config = self._config
        return [
            *("compliance", "report", f"--directory={directory}", f"--config={self._file}"),
            *(f"--node-name={config.node_name}", f"--host-root={config.host_root}"),
            *(f"--kubelet-dir={config.kubelet_dir}", f"--cdi-dir={config.cdi_dir}"),
            f"--state-dir={config.state_dir}",
            *([f"--trusted-dirs={','.join(config.trusted_dirs)}"] if config.trusted_dirs else []),
            *(["--allow-unsupported"] if config.allow_unsupported else []),
        ]

    def _take(self, found: "Found", asked: "Wanted") -> None:
        """Tell what was not found before."""
        known = {text for texts in self._found.values() for text in texts}
        self._found = found
        texts = {text: name for name, texts in found.items() for text in texts}
        for text, standard in texts.items():
            if text not in known:
                for name, severity in asked.alerts or (("compliance_violation", "warning"),):
                    tell = log.error if severity == "critical" else log.warning
                    tell(
                        "compliance_violation",
                        alert=name,
                        severity=severity,
                        standard=standard,
                        reason=text,
                    )
