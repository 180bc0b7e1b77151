"""The process that has a GPU under test: it runs our kernels, or becomes the vendor's tool.

It ends with whoever started it, however that ends; what it finds is one line of JSON.
"""

import ctypes
import json
import os
import signal
import sys
import time
from typing import Any

from deviceplugin.diagnose.active.cuda import Card, Cuda, CudaError
from deviceplugin.diagnose.active.kernels import Bench, Found

_PR_SET_PDEATHSIG = 1
# The driver's results that say that the GPU, and not what is around it, is at fault (cuda.h):
# uncorrectable error of the memory, hardware stack error, illegal address and instruction in
# kernels that have none, launch timeout and failure, and an error that the driver cannot name.
BROKEN = frozenset({214, 219, 700, 702, 714, 715, 716, 717, 719, 999})
_UNUSABLE = frozenset({100, 101, 802, 803, 804})  # no device, or a driver that is not ready


def main(arguments: list[str]) -> int:
    """PARENT, and `TEST SECONDS ADDRESS LIBRARY`, `list LIBRARY` or `exec PROGRAM …`."""
    parent, what, *rest = arguments
    _end_with_parent(int(parent))
    if what == "exec":
        os.execvp(rest[0], rest)  # noqa: S606  # as it is told, without a shell
    try:
        found = _listed(*rest) if what == "list" else _tested(what, *rest)
    except CudaError as error:
        broken = error.code in BROKEN
        found = {"problem": str(error), "broken": broken, "unusable": error.code in _UNUSABLE}
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def _end_with_parent(parent: int) -> None:
    """A parent that has ended before this call can kill nobody any more."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)


def _listed(library: str) -> dict[str, Any]:
    cards = Cuda(library).cards()
    return {"cards": [{"address": one.address, "product": one.name} for one in cards]}


def _tested(test: str, seconds: str, address: str, library: str) -> dict[str, Any]:
    cuda = Cuda(library)
    card = next((one for one in cuda.cards() if one.address == address.lower()), None)
    if card is None:
        raise CudaError(f"the CUDA driver does not show the GPU at {address}", 100)
    with cuda.using(card):
        until_s = time.monotonic() + float(seconds)
        bench = Bench(cuda, card, lambda: time.monotonic() < until_s)
        found = _TESTS[test](bench)
    return _document(found, card, test)


_TESTS = {"memory_test": Bench.memory, "compute_test": Bench.burn, "thermal_test": Bench.heat}


def _document(found: Found, card: Card, test: str) -> dict[str, Any]:
    roof = card.bandwidth_roof if test == "memory_test" else card.throughput_roof
    if " MIG " in card.name:  # what the driver tells of the bus may be that of the whole GPU
        roof = None
    return {
        "product": card.name,
        "value": found.value,
        "roof": roof,
        "wrong": found.wrong,
        "passes": found.passes,
        "covered": found.covered,
        "tensor": found.tensor,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
