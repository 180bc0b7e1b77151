"""The kubelet stub as a command: serves, prints what changes, ends on SIGTERM or SIGINT."""

import argparse
import asyncio
import signal
import sys
from functools import partial
from pathlib import Path

from deviceplugin.testing.kubelet import KubeletStub
from deviceplugin.testing.pods import AdmissionError


def main(argv: list[str] | None = None) -> None:
    """Run the stub until a signal; exit status 2 for bad arguments."""
    asyncio.run(_run(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deviceplugin.testing.kubelet",
        description="A kubelet stub for device plugins: real sockets, no node, no containers.",
    )
    parser.add_argument("--kubelet-dir", type=Path, required=True, help="made if missing")
    parser.add_argument(
        "--allocate",
        type=_parse_request,
        action="append",
        default=[],
        metavar="RESOURCE=N",
        help="admit a pod with N devices once the resource is registered (may be repeated)",
    )
    return parser


def _parse_request(text: str) -> tuple[str, int]:
    resource, _, count = text.rpartition("=")
    if not resource or not count.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not RESOURCE=N")
    return resource, int(count)


async def _run(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with KubeletStub(arguments.kubelet_dir) as stub:
        _say(f"serving on {stub.kubelet_socket}")
        jobs = [asyncio.create_task(_print_changes(stub))]
        for index, (resource, count) in enumerate(arguments.allocate):
            jobs.append(asyncio.create_task(_admit(stub, f"pod-{index}", resource, count)))
        await stopped.wait()
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
    for text in [*stub.crashes, *stub.violations]:
        _say(text)


async def _print_changes(stub: KubeletStub) -> None:
    shown: tuple[dict[str, int], dict[str, int]] = ({}, {})
    while True:
        await stub.wait_for(partial(_differs, stub, shown), timeout_s=None)
        shown = (stub.capacity(), stub.allocatable())
        for resource, capacity in shown[0].items():
            _say(f"{resource} capacity={capacity} allocatable={shown[1][resource]}")


def _differs(stub: KubeletStub, shown: tuple[dict[str, int], dict[str, int]]) -> bool:
    return (stub.capacity(), stub.allocatable()) != shown


async def _admit(stub: KubeletStub, pod: str, resource: str, count: int) -> None:
    await stub.wait_registered(resource, timeout_s=None)
    try:
        admission = await stub.admit(pod, {"main": {resource: count}})
    except AdmissionError as error:
        _say(f"{pod}: {error}")
        return
    for allocation in admission.allocations:
        _say(f"{pod}: {resource} {' '.join(allocation.device_ids)}")
        _say(f"{pod}: {str(allocation.answer).strip()}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
