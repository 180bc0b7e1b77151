"""Limits of pods that run, in their cgroups, from what the ledger says that containers hold.

Blocking. Names come from folders that the kubelet makes: /var/log/pods has pods' UIDs,
/var/log/containers the ids of containers. Where these are not mounted there is nothing to write.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from deviceplugin.enforcement.cgroups import LimitError, Tree
from deviceplugin.enforcement.held import Granted
from deviceplugin.enforcement.regions import Limits, limits_of
from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.resources.entries import Holder
from deviceplugin.telemetry.who import read_pods

CONTAINER_LOGS = "/var/log/containers"
_POD = re.compile(r"(?:.*-)?pod([0-9a-f_-]{1,64})(?:\.slice)?")
_LOG = re.compile(
    r"(?P<pod>[^_]+)_(?P<namespace>[^_]+)_(?P<container>.+)-(?P<id>[0-9a-f]{64})\.log"
)


class Wanted(Struct, frozen=True, kw_only=True):
    """What a cgroup is to be held to, and for whom."""

    holder: Holder
    cgroup: Path
    limits: Limits


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of all limits: how many were set now, and why others could not be."""

    written: int = 0
    failed: Mapping[Holder, str]


def wanted_of(
    host: Host, tree: Tree, granted: Granted, capacity: Limits, *, pods_too: bool = True
) -> Iterator[Wanted]:
    """The cgroup of each container that has slices, and with `pods_too` that of its pod with the
    sum of them: an init container that has more than those after it would be held to less."""
    uids = {(pod.namespace, pod.name): uid for uid, pod in read_pods(host)}
    ids, cgroups = _container_ids(host), tree.containers()
    pods: dict[Path, tuple[Holder, dict[str, int]]] = {}
    for holder, grants in granted.items():
        limits = limits_of(grants, capacity)
        uid = uids.get((holder.namespace, holder.pod))
        if not limits or uid is None:
            continue
        for place in pod_cgroups(tree, uid) if pods_too else ():
            total = pods.setdefault(place, (holder, {}))[1]
            for region, size in limits.items():
                total[region] = total.get(region, 0) + size
        for one in ids.get(holder, ()):
            if one in cgroups:
                yield Wanted(holder=holder, cgroup=cgroups[one], limits=limits)
    for place, (holder, limits) in pods.items():
        yield Wanted(holder=holder, cgroup=place, limits=limits)


def keep_limits(tree: Tree, wanted: Iterable[Wanted], *, minimum: bool) -> Outcome:
    """Write each limit that is not there yet; one that fails keeps no other from being set."""
    written, failed = 0, dict[Holder, str]()
    for one in wanted:
        now = tree.limits(one.cgroup)
        if now is not None and all(now.get(region) == size for region, size in one.limits.items()):
            continue
        try:
            tree.limit(one.cgroup, one.limits, minimum=minimum)
        except LimitError as error:
            failed[one.holder] = str(error)
        else:
            written += 1
    return Outcome(written=written, failed=failed)


def pod_cgroups(tree: Tree, uid: str) -> tuple[Path, ...]:
    """The cgroups of a pod: `pod<uid>`, or `…-pod<uid>.slice` with underscores."""
    names = (f"pod{uid}", f"pod{uid.replace('-', '_')}.slice")
    found = []
    for place in tree.pods():
        for name in names:
            prefix = f"{place.name.removesuffix('.slice')}-" if name.endswith(".slice") else ""
            if (place / f"{prefix}{name}").is_dir():
                found.append(place / f"{prefix}{name}")
    return tuple(found)


def pod_of(cgroup: Path) -> str:
    """The UID of the pod that a cgroup is, "" where it is none."""
    match = _POD.fullmatch(cgroup.name)
    return match[1].replace("_", "-") if match else ""


def _container_ids(host: Host) -> Mapping[Holder, tuple[str, ...]]:
    found: dict[Holder, tuple[str, ...]] = {}
    try:
        names = host.read_names(CONTAINER_LOGS)
    except DiscoveryError:
        return found
    for name in names:
        if match := _LOG.fullmatch(name):
            holder = Holder(
                namespace=match["namespace"], pod=match["pod"], container=match["container"]
            )
            found[holder] = (*found.get(holder, ()), match["id"])
    return found
