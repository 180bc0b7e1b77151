"""Limits written by the privileged process `deviceplugin provision`, so that the daemon's own
container needs no right to write cgroups: who asks, and what is done there. Blocking.

A request names a container or a pod by its id, and amounts of memory; never a path or a file.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from deviceplugin.enforcement.cgroups import LimitError, Tree, container_of
from deviceplugin.enforcement.pods import pod_cgroups, pod_of
from deviceplugin.enforcement.regions import MAX_BYTES, Limits, addresses_of
from deviceplugin.enforcement.section import EnforcementSection
from deviceplugin.enforcement.standing import CGROUPS
from deviceplugin.host import Host
from deviceplugin.provision.protocol import FILE, Answer, Limit, NoHelperError, ask_helper

ASK_S = 5.0
_CONTAINER, _POD = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f-]{1,64}")


class AskingTree(Tree):
    """A tree that is read here and written by whom is asked."""

    def __init__(self, root: Path, ask: Callable[[Limit], Answer]) -> None:
        super().__init__(root)
        self._ask = ask

    def enable(self) -> None:
        """As `Tree`."""
        self._asked(Limit())

    def limit(self, cgroup: Path, limits: Limits, *, minimum: bool = False) -> None:
        """As `Tree`; only for cgroups of containers and of pods."""
        if not cgroup.is_dir():
            return
        container, pod = container_of(cgroup), pod_of(cgroup)
        request = Limit(container=container, pod=pod, regions=dict(limits), minimum=minimum)
        self._asked(request)

    def _asked(self, request: Limit) -> None:
        try:
            answer = self._ask(request)
        except NoHelperError as error:
            raise LimitError(str(error)) from error
        if answer.error:
            raise LimitError(answer.error)


def tree_of(host: Host, section: EnforcementSection, state_dir: Path) -> Tree:
    """The host's tree, written as the section says."""
    root = host.root / CGROUPS.lstrip("/")
    if section.writer == "daemon":
        return Tree(root)
    return AskingTree(root, partial(_ask, state_dir / FILE))


def _ask(path: Path, request: Limit) -> Answer:
    return ask_helper(path, request, ASK_S)


def write_limit(tree: Tree, request: Limit) -> None:
    """Do what is asked for; raises LimitError, also for what no daemon of ours asks for."""
    if problem := _problem(request):
        raise LimitError(problem)
    if not (request.container or request.pod):
        tree.enable()
        return
    for cgroup in _cgroups(tree, request):
        tree.limit(cgroup, request.regions, minimum=request.minimum)


def _cgroups(tree: Tree, request: Limit) -> tuple[Path, ...]:
    """None where it is gone: then nothing is left to be limited."""
    if request.container:
        found = tree.containers().get(request.container)
        return () if found is None else (found,)
    return pod_cgroups(tree, request.pod)


def _problem(request: Limit) -> str:
    if request.container and not _CONTAINER.fullmatch(request.container):
        return "not a container's id"
    if request.pod and not _POD.fullmatch(request.pod):
        return "not a pod's UID"
    if any(not addresses_of([region]) for region in request.regions):
        return "not regions of device memory"
    if any(not 0 <= size <= MAX_BYTES for size in request.regions.values()):
        return "not amounts of memory"
    return ""
