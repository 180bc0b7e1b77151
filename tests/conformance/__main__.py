"""`make conformance`: the suite against our daemon on a simulated node."""

import asyncio
import sys
import tempfile
from pathlib import Path

from deviceplugin.testing.conformance.report import as_text
from deviceplugin.testing.conformance.runner import run_suite
from deviceplugin.testing.conformance.verdict import Outcome
from tests.conformance.node import AMD, INTEL, NVIDIA, hooks, settings_for, three_vendors
from tests.rig import Rig


def main() -> int:
    """Print the report: 0, or 1 where a line failed."""
    with tempfile.TemporaryDirectory(prefix="c") as directory:
        rig = Rig(Path(directory))
        double = three_vendors(rig)
        settings = settings_for(rig, resources=NVIDIA + AMD + INTEL, **hooks(rig, double))
        result = asyncio.run(run_suite(settings))
    sys.stdout.write(as_text(result))
    return 1 if result.count(Outcome.FAIL) else 0


raise SystemExit(main())
