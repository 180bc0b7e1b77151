"""`deviceplugin diagnose` and `deviceplugin support-bundle`: this node, looked at once."""

import asyncio
import json
import platform
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import yaml

from deviceplugin.bypass.section import wanted
from deviceplugin.cli.ask import ask
from deviceplugin.cli.output import load_here, rendered
from deviceplugin.cli.progress import progress
from deviceplugin.config.config import Config
from deviceplugin.config.effective import effective
from deviceplugin.diagnose.bundle import packed, without_secrets, write_new
from deviceplugin.diagnose.gather import Around, Holders, gather, look
from deviceplugin.diagnose.model import RuntimeFacts, Verdict
from deviceplugin.diagnose.reading import MAX_CDI_FILES
from deviceplugin.diagnose.redact import Redactor, identities
from deviceplugin.diagnose.report import diagnosis, diagnosis_text, junit_text, wrong_checks
from deviceplugin.discovery.registry import create_vendors
from deviceplugin.documents.access import DEFAULT_ALLOWED
from deviceplugin.errors import ConfigError, DiscoveryError
from deviceplugin.health.section import HealthSection
from deviceplugin.host import Host
from deviceplugin.host.runtimes import read_cdi_support
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import DeviceID
from deviceplugin.resources.automatic import with_automatic
from deviceplugin.resources.plan import SOURCE, sharing_of
from deviceplugin.resources.report import report
from deviceplugin.runtime.control import ControlError
from deviceplugin.runtime.logs import configure_logs
from deviceplugin.schema import section_of
from deviceplugin.vendor import VendorModule

Document = dict[str, Any]
Modules = Sequence[VendorModule]
_VIEWS = ("discover", "health", "status")  # of a running daemon
_HOST_FILES = {"kernel": "/proc/version", "modules": "/proc/modules"}
# Of the kernel's command line, which may hold secrets of others.
_BOOT_WORDS = ("iommu", "intel_iommu", "amd_iommu", "pci", "nvidia", "amdgpu", "i915", "xe", "vfio")
_STATUS = {Verdict.FAIL: 1}


def run_diagnose(flags: Mapping[str, str | None], form: str, window_s: float) -> int:
    """Print the diagnosis; the exit status: 1 where a check fails."""
    configure_logs("critical", "console")  # what fails is a finding of a check
    config, modules = load_here(flags)
    document, _ = _look(config, modules, _answers(config), window_s)
    if form == "junit":
        click.echo(junit_text(document), nl=False)
    else:
        click.echo(rendered(document, form, diagnosis_text, wrong_checks), nl=False)
    return _STATUS.get(document["verdict"], 0)


def run_bundle(flags: Mapping[str, str | None], path: str, window_s: float) -> None:
    """Write the archive to `path`; raises ConfigError where that cannot be done."""
    configure_logs("critical", "console")
    config, modules = load_here(flags)
    answers = _answers(config)
    document, seen = _look(config, modules, answers, window_s)
    texts = _texts(config, {"diagnosis": document, "discover-now": seen, **answers})
    try:
        write_new(Path(path), packed(texts, _redactor(config, texts)))
    except OSError as error:
        what = "a new file in a directory that can be written"
        raise ConfigError("--output", path, what, reason=str(error.strerror)) from error


def _look(
    config: Config, modules: Modules, answers: Mapping[str, Document], window_s: float
) -> tuple[Document, Document]:
    """The diagnosis, and the report of the node as it is now."""
    store = InventoryStore(time.time)
    sharing, root = sharing_of(config.sections), Host(config.host_root)
    sharing = with_automatic(sharing, root, config.sections)
    for status in config.skipped:
        store.set_status(status)

    async def run() -> Document:
        host = Host(config.host_root)
        vendors = await create_vendors(modules, host, config.sections, store.set_status)
        deadline_s = section_of(config.sections, "health", HealthSection).call_deadline_s
        await look(vendors, store, deadline_s)
        store.set_faults(SOURCE, sharing.faults(store.current))
        around = _around(config, host, answers, (deadline_s, window_s))
        return diagnosis(await gather(around, vendors, store.current))

    with progress("checking this node"):
        document = asyncio.run(run())
    return document, report(config.node_name, store.current, sharing.plan(store.current))


def _around(
    config: Config, host: Host, answers: Mapping[str, Document], times_s: tuple[float, float]
) -> Around:
    support = read_cdi_support(host)
    return Around(
        node_name=config.node_name,
        host=host,
        own=Host(),
        cdi_dir=config.cdi_dir,
        kubelet_dir=config.kubelet_dir,
        deadline_s=times_s[0],
        window_s=times_s[1],
        now=time.time,
        runtime=RuntimeFacts(
            honoured=support.honoured,
            reason=support.reason,
            remedy=support.remedy,
            needed=any(map(_needs_cdi, config.sections.values())),
        ),
        held=_held(answers.get("health", {})),
        listed=_listed(answers.get("discover", {})),
        daemon_problem=str(answers.get("discover", {}).get("problem", "")),
        allowed=_allowed(config),
    )


def _allowed(config: Config) -> tuple[str, ...]:
    section = wanted(config.sections)
    return DEFAULT_ALLOWED if section is None else section.allowed


def _needs_cdi(section: object) -> bool:
    strategies = getattr(section, "device_list_strategy", ())
    return any(str(one).startswith("cdi-") for one in strategies)


def _answers(config: Config) -> Mapping[str, Document]:
    """What the running daemon says of itself, or why it does not."""
    return {name: _answer(str(config.state_dir), name) for name in _VIEWS}


def _answer(state_dir: str, operation: str) -> Document:
    try:
        return ask(state_dir, {"operation": operation})
    except ControlError as error:
        return {"problem": str(error)}


def _held(health: Document) -> Holders | None:
    """Namespace and name of the pods that hold each device."""
    if "devices" not in health:
        return None
    return {
        DeviceID(device["id"]): frozenset((h["namespace"], h["pod"]) for h in device["held_by"])
        for device in health["devices"]
    }


def _listed(discover: Document) -> Mapping[str, int] | None:
    """How many healthy ids the daemon lists of each resource."""
    if "resources" not in discover:
        return None
    return {
        name: sum(entry["health"] == "Healthy" for entry in ids)
        for name, ids in discover["resources"].items()
    }


def _texts(config: Config, documents: Mapping[str, Document]) -> dict[str, str]:
    """The files of the archive before identities are taken out."""
    redactor = partial(without_secrets, redactor=_redactor(config, {}))
    texts = {
        f"{name}.json": json.dumps(redactor(json.loads(json.dumps(one))), indent=1) + "\n"
        for name, one in documents.items()
    }
    settings = redactor(json.loads(json.dumps(effective(config))))
    texts["configuration.yaml"] = yaml.safe_dump(settings, sort_keys=True)
    texts["diagnosis.txt"] = diagnosis_text(documents["diagnosis"])
    texts["versions.txt"] = (
        f"deviceplugin {version('deviceplugin')}\nPython {platform.python_version()}\n"
    )
    host = Host(config.host_root)
    texts |= {f"host/{name}.txt": _read(host, path) for name, path in _HOST_FILES.items()}
    words = _read(host, "/proc/cmdline").split()
    texts["host/boot.txt"] = "".join(f"{w}\n" for w in words if w.startswith(_BOOT_WORDS))
    own = Host()
    names = own.read_names(str(config.cdi_dir)) if config.cdi_dir.is_dir() else ()
    for name in names[:MAX_CDI_FILES]:
        texts[f"cdi/{name}"] = _read(own, f"{config.cdi_dir}/{name}")
    return texts


def _redactor(config: Config, texts: Mapping[str, str]) -> Redactor:
    """By a key of the machine, so that two archives of it can be compared."""
    machine = _read(Host(config.host_root), "/etc/machine-id").strip()
    key = machine or identities(texts.values()) or config.node_name
    names = {config.node_name, platform.node(), *_short((config.node_name, platform.node()))}
    return Redactor(key, tuple(sorted(filter(None, names))))


def _short(names: Sequence[str]) -> Sequence[str]:
    return [name.partition(".")[0] for name in names]


def _read(host: Host, path: str) -> str:
    try:
        return host.read_text(path) or ""
    except DiscoveryError as error:
        return f"{error}\n"


def looked(config: Config, modules: Modules) -> tuple[Document, Document]:
    """The diagnosis, and the report of `discover`, for a report that quotes both."""
    return _look(config, modules, _answers(config), 1.0)
