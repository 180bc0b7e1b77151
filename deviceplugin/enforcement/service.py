"""Enforcement as a part of the daemon; what sets limits is loaded when the section is on."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from msgspec.structs import replace

from deviceplugin.enforcement.around import Around, OfHost
from deviceplugin.enforcement.section import enforcement_section
from deviceplugin.errors import AllocationError, Refusal
from deviceplugin.host import Host
from deviceplugin.model import AdvertisedDevice, ContainerEdits, Mount, Resource, frozen
from deviceplugin.resources.build import Enforced
from deviceplugin.resources.grants import Granted
from deviceplugin.runtime.part import Collector, Once, Part, Series
from deviceplugin.vendor import Grant

if TYPE_CHECKING:  # who has no limits does not pay for them
    from deviceplugin.enforcement.files import LimitFiles
    from deviceplugin.enforcement.node import Enforcer
    from deviceplugin.enforcement.standing import Standing
    from deviceplugin.kubernetes.story import Cause

log = structlog.get_logger()


class EnforcementPart(Part[OfHost]):
    """Sets the limits that its section asks for; `noted` adds to what an allocation brings."""

    def __init__(self, config: OfHost, around: Around) -> None:
        self._around = around
        self._changed = asyncio.Event()
        self._enforcer: Enforcer | None = None
        self._kept: tuple[Path, LimitFiles] | None = None
        self._take(config)

    def _take(self, config: OfHost) -> None:
        self._host, self._state_dir = Host(config.host_root), config.state_dir
        self._section = enforcement_section(config.sections)

    @property
    def is_on(self) -> bool:
        """Whether there is anything to do."""
        section = self._section
        return section.memory != "off" or section.excess.watch or section.file

    @property
    def writes_files(self) -> bool:
        """Whether containers get what they are told as a file."""
        return self._section.file

    @property
    def enforcer(self) -> "Enforcer | None":
        """While it is on."""
        return self._enforcer

    def tasks(self) -> Mapping[str, Once]:
        """The looks and the runtime's session."""
        return {"enforcement": self._run}

    async def use(self, config: OfHost) -> None:
        """Enforce by `config` from now on; what containers have they keep."""
        self._take(config)
        self._changed.set()

    def collectors(self) -> Mapping[str, Collector]:
        """Nothing while it is off."""
        return {"enforcement": _Collector(self, self._around)}

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            if not self.is_on:
                self._around.hold(Enforced())
                await self._changed.wait()
                continue
            from deviceplugin.enforcement.helper import tree_of  # noqa: PLC0415  # as above
            from deviceplugin.enforcement.node import Enforcer  # noqa: PLC0415  # where it is on

            tree = tree_of(self._host, self._section, self._state_dir)
            state_dir = self._state_dir
            self._enforcer = Enforcer(self._host, self._section, self._around, tree, state_dir)
            self._enforcer.files = self._files()
            try:
                await self._until_changed(self._enforcer)
            finally:
                self._enforcer = None

    async def _until_changed(self, enforcer: "Enforcer") -> None:
        working = asyncio.create_task(enforcer.run())
        changed = asyncio.create_task(self._changed.wait())
        try:
            done, _ = await asyncio.wait({working, changed}, return_when=asyncio.FIRST_COMPLETED)
            if working in done:
                working.result()
        finally:
            for task in (working, changed):
                task.cancel()
            await asyncio.wait({working, changed})

    def remark(self) -> str:
        """That nobody can say who uses more."""
        view = self._around.view()
        if self._section.excess.watch and (view is None or view.processes is None):
            return "slices are not watched: no processes are measured (telemetry.processes)"
        return ""

    def notes(self) -> "Iterable[Cause]":
        """What Events are to say of pods."""
        enforcer = self._enforcer
        if enforcer is None or not enforcer.over:
            return ()
        from deviceplugin.enforcement.events import causes_of  # noqa: PLC0415  # as above

        return causes_of(enforcer.over, self._section.excess.policy)

    def noted(self, resource: Resource, granted: Granted) -> Granted:
        """An allocation with its limits in the container's annotations, where the runtime brings
        them to whoever sets them.

        Raises AllocationError where a limit is due and cannot be set.
        """
        enforcer = self._enforcer
        slices = [grant for grant in granted.grants if grant.share.unit_bytes is not None]
        if self._section.memory == "off" or not slices:
            return granted
        from deviceplugin.enforcement.regions import annotation_of, limits_of  # noqa: PLC0415
        from deviceplugin.enforcement.standing import NOT_YET, Standing  # noqa: PLC0415

        standing = enforcer.standing if enforcer else Standing(problem=NOT_YET)
        self._check(resource, slices, standing)
        more = annotation_of(resource.name, limits_of(slices, standing.capacity))
        edits = granted.edits
        annotations = frozen({**edits.annotations, **more})
        return replace(granted, edits=replace(edits, annotations=annotations))

    async def finished(
        self, resource: Resource, entries: Sequence[AdvertisedDevice], edits: ContainerEdits
    ) -> ContainerEdits:
        """The edits of a container with slices, with a file of what it is told.

        Raises AllocationError where that cannot be written and must be.
        """
        files = self._files() if self._section.file else None
        if files is None or not any(e.share and e.share.unit_bytes for e in entries):
            return edits
        from deviceplugin.enforcement.files import place_of  # noqa: PLC0415  # where it is on

        ids = [entry.id for entry in entries]
        try:
            path = await asyncio.to_thread(files.write, resource.name, ids, edits.env)
        except OSError as error:
            text = f"the file of its limits cannot be written: {error}"
            if self._section.failure == "refuse":
                raise AllocationError(Refusal.UNLIMITED, f"{resource.name}: {text}") from error
            log.warning("limit_file_not_written", resource=resource.name, reason=text)
            return edits
        mount = Mount(path=place_of(resource.name), host_path=str(path))
        return replace(edits, mounts=(*edits.mounts, mount))

    async def claimed(self, driver: str, uid: str, edits: ContainerEdits) -> ContainerEdits:
        """The edits of a claim that shares devices, with a file of what its containers are told: by
        its mount the runtime's plugin knows them. Raises OSError."""
        files = self._files()
        known = [one for one in self._around.claims() if (one.source, one.uid) == (driver, uid)]
        if files is None or not any(one.memory for one in known):
            return edits
        from deviceplugin.enforcement.files import claim_place  # noqa: PLC0415  # where it is on

        path = await asyncio.to_thread(files.write_claim, driver, uid, edits.env)
        mount = Mount(path=claim_place(driver, uid), host_path=str(path))
        return replace(edits, mounts=(*edits.mounts, mount))

    @property
    def _asks_runtime(self) -> bool:
        return self._section.memory in ("auto", "nri")

    def _files(self) -> "LimitFiles | None":
        if not (self._section.file or self._asks_runtime):
            return None
        if self._kept is None or self._kept[0] != self._state_dir:
            from deviceplugin.enforcement.files import LimitFiles  # noqa: PLC0415  # where it is on

            self._kept = (self._state_dir, LimitFiles(self._state_dir))
        return self._kept[1]

    def _check(self, resource: Resource, slices: Sequence[Grant], standing: "Standing") -> None:
        from deviceplugin.enforcement.standing import LATE, takes_no_part  # noqa: PLC0415

        if self._section.failure != "refuse":
            return
        for grant in slices:
            reason = standing.why_not(grant.device)
            late = reason.endswith(LATE) and self._section.memory != "nri"
            if reason and not late and not takes_no_part(grant.device):
                text = f"the memory limit of {grant.device.id} cannot be set: {reason}"
                raise AllocationError(Refusal.UNLIMITED, f"{resource.name}: {text}")


class _Collector:
    """None at all while the section is off."""

    def __init__(self, part: EnforcementPart, around: Around) -> None:
        self._part, self._around = part, around

    def collect(self) -> Iterable[Series]:
        """The series as they are now; on another thread."""
        enforcer = self._part.enforcer
        if enforcer is None:
            return ()
        from deviceplugin.enforcement.metrics import series_of  # noqa: PLC0415  # as above

        return series_of(enforcer, self._around)
