"""The configuration of the command `scheduler`: sections and documents that are written for the
cluster, and what of them its own kube-scheduler takes."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct, structs

from deviceplugin.cli.frame import parse_number
from deviceplugin.config.files import read_pieces
from deviceplugin.config.load import load
from deviceplugin.errors import ConfigError
from deviceplugin.learning.settings import Learning
from deviceplugin.scheduler.asking import Asking, asking_of
from deviceplugin.scheduler.fairness import FairShare
from deviceplugin.scheduler.parts import Weights
from deviceplugin.scheduler.published import DRIVERS

KIND = "KubeSchedulerConfiguration"
# The plugins of the configuration are parts of the extender.
PLUGINS: Mapping[str, str] = {
    "GPUResourceFit": "fit",
    "GPUAffinity": "affinity",
    "GPULoadBalancing": "balance",
}
MAX_WEIGHT = 10_000
_DRIVER = re.compile(r"(?=.{1,63}$)[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
Document = dict[str, Any]


class Asked(Struct, frozen=True, kw_only=True):
    """What the file asks of the scheduler; `fair` that namespaces have shares, `learning` that a
    model is made."""

    asking: Asking = Asking()
    fair: bool = False
    learning: Learning | None = None


def asking_of_file(path: str | None) -> Asked:
    """What a file or a directory asks; raises ConfigError with everything that is wrong."""
    if path is None:
        return Asked()
    config, _ = load({"config": path})
    weights = _weights(path)
    scheduling = config.sections.get("scheduling")
    return Asked(
        asking=asking_of(config.sections, weights),
        fair=getattr(scheduling, "policy", None) == "fair_share",
        learning=_learning(config.sections.get("ai_scheduler")),
    )


_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86_400, "y": 365 * 86_400}
FALLBACK = "round_robin"
LEAST_INTERVAL_S = 60.0


def _learning(section: Any) -> Learning | None:  # Any: a section of documents
    """Raises ConfigError."""
    if section is None or not section.enabled:
        return None
    training, inference = section.training, section.inference
    given = {
        "interval_s": _seconds("training.interval", getattr(training, "interval", None)),
        "retention_s": _seconds(
            "training.data_retention", getattr(training, "data_retention", None)
        ),
        "timeout_s": _seconds("inference.timeout", getattr(inference, "timeout", None)),
        "batch": getattr(inference, "batch_size", None),
        "name": section.model,
        "version": getattr(training, "model_version", None),
    }
    found = Learning(**{key: value for key, value in given.items() if value is not None})
    if found.interval_s < LEAST_INTERVAL_S:
        raise ConfigError("ai_scheduler.training.interval", training.interval, "1m at least")
    if found.batch < 1:
        raise ConfigError("ai_scheduler.inference.batch_size", str(found.batch), "1 at least")
    fallback = getattr(inference, "fallback", None) or FALLBACK
    if fallback != FALLBACK:
        raise ConfigError("ai_scheduler.inference.fallback", fallback, FALLBACK)
    return found


def _seconds(key: str, text: str | None) -> float | None:
    """The seconds of a time such as 30d; raises ConfigError."""
    if text is None:
        return None
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    try:
        seconds = float(digits) * _SECONDS[text[len(digits) :].strip()]
    except (ValueError, KeyError) as error:
        raise ConfigError(f"ai_scheduler.{key}", text, "a time such as 1h or 30d") from error
    if not seconds > 0:
        raise ConfigError(f"ai_scheduler.{key}", text, "a time above 0")
    return seconds


def _documents(path: str) -> list[Document]:
    return [piece.content for piece in read_pieces(Path(path)) if piece.kind == KIND]


def _weights(path: str) -> Weights:
    found = {}
    for profile in _profiles(_documents(path)):
        for name, weight in _enabled(profile, "score"):
            if name in PLUGINS:
                if not isinstance(weight, int) or not 0 <= weight <= MAX_WEIGHT:
                    meant = f"a number from 0 to {MAX_WEIGHT}"
                    raise ConfigError(f"{name}.weight", str(weight), meant)
                found[PLUGINS[name]] = weight
    if found and not any(found.values()):
        raise ConfigError("weight", "0", "a weight above 0 for one of the plugins")
    defaults = dict.fromkeys(PLUGINS.values(), 0) if found else {}
    return structs.replace(Weights(), **{**defaults, **found})


def _profiles(documents: list[Document]) -> Iterator[Document]:
    for document in documents:
        for profile in document.get("profiles") or ():
            if isinstance(profile, dict):
                yield profile


def _enabled(profile: Document, point: str) -> Iterator[tuple[str, object]]:
    plugins = profile.get("plugins")
    at = plugins.get(point) if isinstance(plugins, dict) else None
    for one in (at.get("enabled") if isinstance(at, dict) else None) or ():
        if isinstance(one, dict):
            yield str(one.get("name")), one.get("weight", 1)


def configuration_text(path: str, url: str, kubeconfig: str) -> str:
    """The configuration as kube-scheduler takes it: the plugins that it does not have are the
    extender's, which is added. Raises ConfigError."""
    documents = _documents(path)
    if len(documents) != 1:
        raise ConfigError(
            "--config", path, f"one document of the kind {KIND}, not {len(documents)}"
        )
    asking_of_file(path)
    document = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": KIND,
        "clientConnection": {"kubeconfig": kubeconfig},
        **documents[0],
        "percentageOfNodesToScore": 100,
        "profiles": [_without_ours(profile) for profile in _profiles(documents)],
        "extenders": [extender(url)],
    }
    return yaml.safe_dump(document, sort_keys=False)


def extender(url: str) -> Document:
    """The extender as deploy/scheduler has it."""
    return {
        "urlPrefix": url,
        "filterVerb": "filter",
        "prioritizeVerb": "prioritize",
        "preemptVerb": "preempt",
        "weight": 100,
        "nodeCacheCapable": True,
        "ignorable": True,
        "httpTimeout": "5s",
    }


def _without_ours(profile: Document) -> Document:
    plugins = {}
    for point, at in (profile.get("plugins") or {}).items():
        enabled = [one for one in at.get("enabled") or () if one.get("name") not in PLUGINS]
        kept = {**at, "enabled": enabled}
        if not enabled:
            del kept["enabled"]
        if kept:
            plugins[point] = kept
    kept_profile = {key: value for key, value in profile.items() if key != "plugins"}
    return kept_profile | ({"plugins": plugins} if plugins else {})


def parse_drivers(text: str) -> frozenset[str]:
    """The DRA drivers whose slices have GPUs: the vendors' own and these; raises ConfigError."""
    found = frozenset(one.strip() for one in text.split(",") if one.strip())
    for one in sorted(found):
        if not _DRIVER.fullmatch(one):
            raise ConfigError("--dra-drivers", one, "names of drivers such as gpu.example.com")
    return DRIVERS | found


def parse_fair_share(text: str | None, starving: str, *, always: bool) -> FairShare | None:
    """The shares of namespaces, None for none; raises ConfigError."""
    seconds = parse_number(starving, "--starving-after")
    if text is None:
        return FairShare(starving_s=seconds) if always else None
    weights = {}
    for part in filter(None, text.split(",") if text != "all" else ()):
        name, _, number = part.strip().partition("=")
        weight = int(number) if number.isascii() and number.isdecimal() and len(number) < 6 else 0
        if not name or not weight:
            raise ConfigError(
                "--fair-share", part, "NAMESPACE=WEIGHT, the weight from 1 to 99999, or `all`"
            )
        weights[name] = weight
    return FairShare(weights=weights, starving_s=seconds)
