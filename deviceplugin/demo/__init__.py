"""`deviceplugin demo`: the real daemon on a simulated node, step by step.

Everything that is simulated comes from deviceplugin.testing; the daemon, its sockets and its
answers are the real ones.
"""

from deviceplugin.demo.scenarios import SCENARIOS
from deviceplugin.demo.story import run_demo

__all__ = ["SCENARIOS", "run_demo"]
