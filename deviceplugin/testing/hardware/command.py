"""The check of a machine with real GPUs as a command."""

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from deviceplugin.errors import VendorError
from deviceplugin.host import Host
from deviceplugin.host.pci import GPU_CLASSES, read_bus, read_function
from deviceplugin.host.sriov import read_physical_function
from deviceplugin.testing.hardware.capture import (
    Seen,
    capture_name,
    replay_check,
    without_capture,
    write_capture,
)
from deviceplugin.testing.hardware.compare import compare, whole_gpus
from deviceplugin.testing.hardware.daemon import run_ours, running
from deviceplugin.testing.hardware.steps import Steps
from deviceplugin.testing.hardware.tools import (
    TOOLS,
    TOPOLOGY,
    Tool,
    ToolGpu,
    ask,
    measured,
    parse_settings,
    with_links,
)
from deviceplugin.testing.hardware.values import Values
from deviceplugin.testing.hardware.verdict import (
    Check,
    differ,
    document,
    judged,
    not_available,
    status,
    table,
)

NO_GPU_STATUS = 77  # what automake and others take for skipped
_PCI_VENDORS = {0x10DE: "nvidia", 0x1002: "amd", 0x8086: "intel"}


def main(argv: list[str] | None = None) -> int:
    """Check this machine: 0, 1 where something differs, 77 without a GPU."""
    arguments = _parser().parse_args(argv)
    machine = Machine(host_root=arguments.host_root)
    machine.ask_tools()
    machine.discover()
    if not machine.has_gpus():
        sys.stdout.write("no GPU on this machine: none on the PCI bus, no driver tells of any\n")
        return NO_GPU_STATUS
    checks = asyncio.run(machine.check(arguments.watch))
    if arguments.captures is not None:
        checks.append(machine.capture(arguments, tuple(checks)))
    sys.stdout.write(document(checks) if arguments.format == "json" else table(checks))
    return status(checks)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deviceplugin.testing.hardware",
        description="Compare this program with the vendors' own tools on a machine with GPUs. "
        "It changes no setting of the machine.",
        epilog="Exit status: 0, 1 where something differs, 77 without a GPU.",
        allow_abbrev=False,
    )
    parser.add_argument("--host-root", type=Path, default=Path("/"), help="where host paths are")
    parser.add_argument("--captures", type=Path, help="keep a redacted capture in this directory")
    parser.add_argument("--name", help="the capture's name; by default from products and drivers")
    parser.add_argument("--watch", type=float, default=20.0, help="seconds to watch health")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    return parser


class Machine(Struct):
    """What the machine says of itself, from all sides."""

    host_root: Path
    found: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, tuple[ToolGpu, ...] | str] = field(default_factory=dict)

    def ask_tools(self) -> None:
        """What each vendor's tool tells, or why it does not."""
        for tool in TOOLS:
            self.tools[tool.name] = self._ask(tool)

    def discover(self) -> None:
        """The document of `deviceplugin discover`."""
        output = run_ours("deviceplugin", "discover", *self._root(), "--format", "json")
        self.problem = output.problem
        if not output.problem:
            self.found = json.loads(output.text)

    def has_gpus(self) -> bool:
        """Whether anything or anybody here knows of a GPU."""
        told = any(gpus and not isinstance(gpus, str) for gpus in self.tools.values())
        return bool(told or self.found.get("devices") or self._on_bus() or self.problem)

    async def check(self, watch_s: float) -> list[Check]:
        """Everything but the capture."""
        if self.problem:
            return [differ("discover", self.problem)]
        checks = [self._discovered()]
        limits = {name: s["max_per_container"] for name, s in self.found["sharing"].items()}
        async with running(self.host_root) as node:
            planned = self.found["resources"]
            steps = Steps(
                *(node, planned, limits, self.host_root, watch_s),
                tools=self._measuring,
                gpus=self._whole(),
            )
            checks += await steps.take()
        self.answers = steps.answers
        checks += [check for tool in TOOLS for check in self._compared(tool)]
        return [*checks, *self._settings()]

    def capture(self, arguments: argparse.Namespace, checks: tuple[Check, ...]) -> Check:
        """Record each vendor, write it all, and try whether it gives the same again."""
        recorded = run_ours("deviceplugin.testing.hardware.record", *self._root())
        if recorded.problem or not self.found:
            return without_capture(recorded.problem or "there is nothing to keep")
        records = json.loads(recorded.text)
        if not records:
            return not_available("capture", "no driver that could be asked")
        seen = Seen(
            records=records,
            discover=self.found,
            answers=self.answers,
            outputs=self.outputs,
            checks=checks,
        )
        directory = arguments.captures / (arguments.name or capture_name(self.found))
        try:
            counts = write_capture(directory, seen, self.host_root).counts
        except OSError as error:
            return without_capture(f"{error.filename}: {error.strerror}")
        kept = replay_check(directory)
        redacted = ", ".join(f"{kind} {n}" for kind, n in sorted(counts.items())) or "nothing"
        details = (*kept.details, f"redacted: {redacted}")
        return Check(name=kept.name, verdict=kept.verdict, details=details)

    def _root(self) -> tuple[str, str]:
        return ("--host-root", str(self.host_root))

    def _ask(self, tool: Tool) -> tuple[ToolGpu, ...] | str:
        output = ask(tool.command)
        if output.problem:
            return output.problem
        self.outputs[_file_name(tool.command)] = output.text
        try:
            gpus = tool.parse(output.text)
        except ValueError as error:
            return f"the output of {' '.join(tool.command)} cannot be read: {error}"
        return self._with_topology(gpus) if tool.vendor == "nvidia" else gpus

    def _with_topology(self, gpus: tuple[ToolGpu, ...]) -> tuple[ToolGpu, ...]:
        output = ask(TOPOLOGY)
        if output.problem:
            return gpus
        self.outputs[_file_name(TOPOLOGY)] = output.text
        return with_links(gpus, output.text)

    def _on_bus(self) -> Mapping[str, str]:
        """Addresses of GPUs on the PCI bus, with their vendor."""
        return dict(_gpus_on_bus(Host(self.host_root)))

    def _discovered(self) -> Check:
        """Each GPU of the bus is found, with what is wrong with it."""
        devices = self.found["devices"]
        known = {device["pci_address"] for device in devices}
        errors = {v["name"]: v["error"] for v in self.found["vendors"]}
        problems = [
            f"{address} ({vendor}) is not found: {errors.get(vendor) or 'no reason is given'}"
            for address, vendor in sorted(self._on_bus().items())
            if address not in known
        ]
        faults = sorted({f"{d['id']}: {f['reason']}" for d in devices for f in d["faults"]})
        check = judged("discover", problems, f"{len(devices)} devices")
        return Check(name=check.name, verdict=check.verdict, details=(*check.details, *faults))

    def _compared(self, tool: Tool) -> Iterator[Check]:
        """Nothing for a vendor that is not here."""
        told, ours = self.tools[tool.name], whole_gpus(self.found["devices"], tool.vendor)
        if isinstance(told, str):
            if ours:
                yield not_available(tool.name, told)
        elif told or ours:
            yield from compare(tool, told, self.found["devices"])

    def _measuring(self) -> Mapping[str, Values | str]:
        """What the tools that told of GPUs which we find measure now, or why one does not say
        it."""
        return {
            tool.name: measured(tool, self.outputs[_file_name(tool.command)])
            for tool in TOOLS
            if not isinstance(self.tools[tool.name], str)
            and whole_gpus(self.found["devices"], tool.vendor)
        }

    def _whole(self) -> Sequence[str]:
        """The ids of GPUs that are not in parts."""
        devices = self.found["devices"]
        parents = {device["parent"] for device in devices}
        return [d["id"] for d in devices if d["parent"] is None and d["id"] not in parents]

    def _settings(self) -> Iterator[Check]:
        """Whether the settings are as they were before."""
        command = TOOLS[0].command
        before = self.outputs.get(_file_name(command))
        if before is None or isinstance(self.tools[TOOLS[0].name], str):
            return
        after = ask(command)
        if after.problem:
            yield not_available("settings unchanged", after.problem)
            return
        was, now = parse_settings(before), parse_settings(after.text)
        changed = [
            f"{key} was {was.get(key)} and is {now.get(key)}"
            for key in sorted(was.keys() | now.keys())
            if was.get(key) != now.get(key)
        ]
        yield judged("settings unchanged", changed, f"{len(was)} settings")


def _file_name(command: tuple[str, ...]) -> str:
    """Where a command's output is kept: `nvidia-smi-q-x.txt`."""
    return "-".join(word.lstrip("-") for word in command) + ".txt"


def _gpus_on_bus(host: Host) -> Iterator[tuple[str, str]]:
    """Those that this node could offer: not functions of another GPU, nor what is passed to
    virtual machines."""
    addresses: tuple[str, ...] = ()
    with contextlib.suppress(VendorError):
        addresses = read_bus(host)
    for address in addresses:
        with contextlib.suppress(VendorError):
            function = read_function(host, address)
            if function is None or function.class_id >> 8 not in GPU_CLASSES:
                continue
            vendor, driver = _PCI_VENDORS.get(function.vendor_id), function.driver or ""
            if vendor and "vfio" not in driver and read_physical_function(host, address) is None:
                yield address, vendor
