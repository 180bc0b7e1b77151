"""From the node as it is to labels that are written; loaded where labels are on."""

from collections.abc import Callable, Mapping

import structlog

from deviceplugin.errors import DevicePluginError
from deviceplugin.kubernetes.api import Access, ApiError
from deviceplugin.labels.own import NodeView, common_labels, own_labels
from deviceplugin.labels.section import LabelsSection
from deviceplugin.labels.sources import Sources
from deviceplugin.labels.targets import ApiTarget, FileTarget, NoTarget, Target, Wanted
from deviceplugin.labels.values import checked, merged
from deviceplugin.runtime.guard import plugin_function
from deviceplugin.runtime.threads import DriverThread
from deviceplugin.vendor.labels import LABEL_PREFIX, Labeller, LabelView

log = structlog.get_logger()

RETRY_S = 60.0
VENDOR_S = 10.0


def target_of(
    section: LabelsSection, node: str, access: Callable[[], Access] | None = None
) -> Target:
    """Where labels go by the section; equal where they go to the same place."""
    if section.apply == "file":
        return FileTarget(section.directory, section.expires_s)
    if section.apply == "api":
        return ApiTarget(node, access)
    return NoTarget()


class Follower:
    """What has been written, and when it is to be written again."""

    def __init__(
        self,
        section: LabelsSection,
        target: Target,
        sources: Sources,
        asking: Mapping[str, object] | None = None,
    ) -> None:
        self._section, self._target, self._sources = section, target, sources
        self._asking = asking or {}
        self._thread, self._started = DriverThread("labels"), int(sources.now())
        self._of_vendors: dict[str, Mapping[str, str]] = {}
        self._seen: tuple[object, object] | None = None
        self._last: tuple[object, object] | None = None
        self._due = 0.0
        self._told: dict[str, str] = {}

    async def look(self) -> None:
        """Write what the node has now, if that is not what was last written or if it is time
        again."""
        if not self._sources.ready():
            return
        now = self._sources.now()
        view = NodeView(inventory=self._sources.inventory(), resources=self._sources.resources())
        seen = (view.inventory, view.resources)
        same = self._seen is not None and all(map(_is, self._seen, seen))
        if same and now < self._due:
            return
        wanted = Wanted(labels=await self._labels(view), taints=self._taints(view), now=now)
        self._seen = seen
        if (wanted.labels, wanted.taints) != self._last or now >= self._due:
            self._last = (wanted.labels, wanted.taints)
            self._due = now + await self._write(wanted)

    async def _write(self, wanted: Wanted) -> float:
        """The seconds until it is to be written again."""
        try:
            left = await self._target.write(wanted)
        except (OSError, ApiError) as error:
            if self._is_new("target", str(error)):
                log.warning("labels_not_written", reason=str(error))
            return RETRY_S
        self._told.pop("target", None)
        for name in left:
            self._refused(name, self._target.why_left)
        return self._target.again_s

    async def end(self, *, clear: bool) -> None:
        """Write no more; with `clear` take away what was written."""
        self._thread.close()
        if not clear:
            return
        try:
            await self._target.clear()
        except (OSError, ApiError) as error:
            log.warning("labels_not_written", reason=str(error))

    def _taints(self, view: NodeView) -> tuple[Mapping[str, str], ...]:
        if not view.whole:
            return ()
        return tuple(
            {"key": one.key, "effect": one.effect} | ({"value": one.value} if one.value else {})
            for one in self._section.taints
        )

    async def _labels(self, view: NodeView) -> Mapping[str, str]:
        """An earlier set counts: ours is never what a vendor says."""
        section = self._section
        common = common_labels(view, section.node_type) if section.common_labels else {}
        own = merged(own_labels(view), self._asked(view))
        found = merged(own, common, await self._vendors(view))
        labels, problems = checked(found)
        for name, problem in problems.items():
            self._refused(name, problem)
        return labels

    def _asked(self, view: NodeView) -> Mapping[str, str]:
        """What the sections of ASKING ask about the node."""
        if not self._asking:
            return {}
        from deviceplugin.labels.asked import asked_labels  # noqa: PLC0415  # where they ask

        return asked_labels(self._asking, view)

    async def _vendors(self, view: NodeView) -> Mapping[str, str]:
        """What the vendors say; of one that fails what it said before."""
        served = [vendor for vendor in self._sources.vendors() if isinstance(vendor, Labeller)]
        for vendor in served:
            asked = _view_of(vendor.name, view, self._started)
            ask = plugin_function(f"{vendor.name}.node_labels", vendor.node_labels)
            try:
                said = await self._thread.call(lambda: _texts(ask(asked)), VENDOR_S)  # noqa: B023
            except DevicePluginError as error:
                if self._is_new(vendor.name, str(error)):
                    log.warning("labels_incomplete", vendor=vendor.name, reason=str(error))
            else:
                self._of_vendors[vendor.name] = said
        names = {vendor.name for vendor in served}
        every = merged(*(said for name, said in self._of_vendors.items() if name in names))
        return {key: value for key, value in every.items() if self._is_wanted(key)}

    def _is_wanted(self, key: str) -> bool:
        return self._section.vendor_labels or key.startswith(f"{LABEL_PREFIX}/")

    def _refused(self, label: str, reason: str) -> None:
        if self._is_new(f"label {label}", reason):
            log.warning("label_refused", label=label, reason=reason)

    def _is_new(self, what: str, reason: str) -> bool:
        """Whether it was not said before: each is said once until it is another one."""
        before = self._told.get(what)
        self._told[what] = reason
        return before != reason


def _texts(said: Mapping[str, str]) -> dict[str, str]:
    """What a vendor of a third party says may be anything."""
    return {str(key): str(value) for key, value in said.items()}


def _is(one: object, other: object) -> bool:
    return one is other


def _view_of(vendor: str, view: NodeView, started: int) -> LabelView:
    status = view.inventory.vendors.get(vendor)
    return LabelView(
        devices=tuple(d for d in view.inventory.devices.values() if d.vendor == vendor),
        resources=tuple(r for _, r in sorted(view.resources.items()) if r.vendor == vendor),
        driver_version=status.driver_version if status else None,
        library_version=status.library_version if status else None,
        started=started,
    )
