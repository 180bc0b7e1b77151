"""The command `explain`: one discovery, one question to a policy, and the answer as text."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from deviceplugin.cli.progress import progress
from deviceplugin.cli.tables import compute_text
from deviceplugin.config.config import Config
from deviceplugin.discovery.loop import look_once
from deviceplugin.discovery.registry import create_vendors
from deviceplugin.enforcement.standing import read_enforced
from deviceplugin.errors import ConfigError
from deviceplugin.host import Host
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Inventory
from deviceplugin.placement.asked import Asked, preference_asked, resource_asked
from deviceplugin.placement.explain import Question, explain
from deviceplugin.placement.registry import load_policy
from deviceplugin.placement.service import Placement, settings_of
from deviceplugin.resources.automatic import with_automatic
from deviceplugin.resources.plan import Plan, sharing_of
from deviceplugin.resources.report import compute_document
from deviceplugin.runtime.tables import table
from deviceplugin.vendor import VendorModule


def chosen(document: dict[str, Any]) -> Sequence[str]:
    """The ids of the choice."""
    ids: Sequence[str] = document["chosen"]["ids"]
    return ids


async def explain_once(
    config: Config, modules: Sequence[VendorModule], asked: Asked
) -> dict[str, Any]:
    """The choice and its runners-up on the hardware as it is now.

    Raises ConfigError for a resource, an id or a policy that does not exist.
    """
    store, host = InventoryStore(time.time), Host(config.host_root)
    vendors = await create_vendors(modules, host, config.sections, store.set_status)
    order = tuple(vendor.name for vendor in vendors)
    with progress("asking the drivers of this node"):
        for vendor in vendors:
            await look_once(vendor, store, order)
    plan = _plan(config, host, store.current)
    resources = plan.resources
    resource = resource_asked(asked, resources)
    placement = Placement(host, settings_of(config.sections, config.node_name), config.state_dir)
    await placement.recall()
    await placement.look(store.current)
    await placement.lay_out(list(resources.values()))
    name, context = asked.policy or placement.policy_of(resource), placement.context
    return explain(
        Question(
            resource=resource,
            preference=preference_asked(asked, resource, (), context),
            context=context,
            name=name,
            not_held=plan.not_held.get(resource.name, ""),
            compute=compute_document(plan.compute.get(resource.name)),
            policy=load_policy(name, "--policy"),
        )
    )


def _plan(config: Config, host: Host, inventory: Inventory) -> Plan:
    enforced = read_enforced(host, config.sections, inventory.devices.values())
    sharing = with_automatic(sharing_of(config.sections), host, config.sections)
    return replace(sharing, enforced=enforced).plan(inventory)


def resource_named(argument: str | None, flag: str | None) -> str:
    """The resource, given as argument or by `--resource`; raises ConfigError."""
    if argument and flag and argument != flag:
        raise ConfigError("--resource", flag, f"the resource of the argument, {argument}, or none")
    name = argument or flag
    if not name:
        what = "the name of a resource, such as nvidia.com/gpu (deviceplugin discover lists them)"
        raise ConfigError("RESOURCE", name or "", what)
    return name


def request_of(asked: Asked) -> dict[str, str]:
    """The question as the daemon is asked it."""
    return {
        "operation": "explain",
        "resource": asked.resource,
        "size": str(asked.size),
        "available": "" if asked.available is None else ",".join(asked.available) or ",",
        "must_include": ",".join(asked.must_include),
        "policy": asked.policy or "",
    }


def explanation_text(document: dict[str, Any]) -> str:
    """The document as tables."""
    return "\n\n".join(_sections(document)) + "\n"


def _sections(document: dict[str, Any]) -> Iterator[str]:
    must = ", ".join(document["must_include"]) or "none"
    yield (
        f"{document['resource']}: {document['size']} of {document['available']},"
        f" policy {document['policy']}, must include {must}"
    )
    why = f": {document['memory_not_held']}" if "memory_not_held" in document else ""
    yield f"isolation {document['isolation']}{why}"
    if "compute_percent" in document:
        yield compute_text(document)
    choices = [("chosen", document["chosen"])]
    choices += [(str(n), other) for n, other in enumerate(document["runners_up"], 2)]
    yield table(
        ("CHOICE", "POLICY", "LINKS", "REST", "GPUS", "PAIRS"),
        [(label, *_row(choice)) for label, choice in choices],
    )
    yield table(
        ("CHOSEN", "GPU", "PCI", "NUMA", "IN USE BEFORE"),
        [_gpu_row(gpu) for gpu in document["chosen"]["gpus"]],
    )
    yield "ids: " + " ".join(document["chosen"]["ids"])
    if claims := document.get("claims"):
        held = (f"{device}: claim {names}" for device, names in claims.items())
        yield "not free: " + "; ".join(held)
    yield "Scores: less is better, compared from left to right; see docs/placement.md."


def _row(choice: dict[str, Any]) -> tuple[str, ...]:
    score = choice["score"]
    gpus = [
        (gpu["pci_address"] or gpu["gpu"]) + (f" ×{gpu['count']}" if gpu["count"] > 1 else "")
        for gpu in choice["gpus"]
    ]
    pairs = [f"{number} {relation}" for relation, number in choice["pairs"].items()]
    parts = (score[part] for part in ("policy", "links", "rest"))
    numbers = ("-" if part is None else str(part) for part in parts)
    return (*numbers, ", ".join(gpus), ", ".join(pairs) or "-")


def _gpu_row(gpu: dict[str, Any]) -> tuple[str, ...]:
    numa = gpu["numa_node"]
    return (
        str(gpu["count"]),
        gpu["gpu"],
        gpu["pci_address"] or "-",
        "-" if numa is None else str(numa),
        f"{gpu['in_use_before_percent']} %",
    )
