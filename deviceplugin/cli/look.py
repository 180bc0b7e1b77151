"""The command `discover` without a daemon: one discovery of each vendor, and the plan of it."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from deviceplugin.cli.progress import progress
from deviceplugin.config.config import Config
from deviceplugin.daemon.workloads import workload_classes
from deviceplugin.discovery.loop import look_once
from deviceplugin.discovery.registry import create_vendors
from deviceplugin.enforcement.standing import read_enforced
from deviceplugin.host import Host
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.resources.automatic import choices, chosen
from deviceplugin.resources.plan import SOURCE, sharing_of
from deviceplugin.resources.report import report
from deviceplugin.resources.unused import unused_document
from deviceplugin.vendor import VendorModule


async def look(config: Config, modules: Sequence[VendorModule]) -> dict[str, Any]:
    """The report of the hardware as it is now."""
    store = InventoryStore(time.time)
    for status in config.skipped:
        store.set_status(status)
    vendors = await create_vendors(
        modules, Host(config.host_root), config.sections, store.set_status
    )
    order = tuple(vendor.name for vendor in vendors)
    with progress("asking the drivers of this node"):
        await asyncio.gather(*(look_once(vendor, store, order) for vendor in vendors))
    devices = store.current.devices.values()
    enforced = read_enforced(Host(config.host_root), config.sections, devices)
    host, sharing = Host(config.host_root), sharing_of(config.sections)
    found = choices(sharing, host, config.sections)
    sharing = replace(chosen(sharing, found), enforced=enforced)
    store.set_faults(SOURCE, sharing.faults(store.current))
    shown = report(config.node_name, store.current, sharing.plan(store.current))
    unused = unused_document(store.current, sharing.rules)
    return {
        **shown,
        "unused_rules": unused,
        **({"notices": [choice.text for choice in found]} if found else {}),
        **workload_classes(config.sections.get("workloads"), shown),
    }
