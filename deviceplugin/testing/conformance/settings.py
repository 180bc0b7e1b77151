"""What a person chooses for a run of the suite."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run. Times are seconds; `slack` stretches every limit of the checklist.

    timeout_s: to wait for anything. call_timeout_s: after which a call of the plugin hangs.
    up_s: after which a second instance of the plugin is up.
    settle_s: how long nothing has to happen before all is taken to have happened.
    lines: what is asked for, everything where it is empty.
    loop_s: how long the loop of restarts may take.
    """

    kubelet_dir: Path
    command: tuple[str, ...] = ()
    pid: int | None = None
    resources: tuple[str, ...] = ()
    lines: frozenset[int] = frozenset()
    host_root: Path = Path("/")
    cdi_dir: Path | None = None
    break_command: tuple[str, ...] = ()
    mend_command: tuple[str, ...] = ()
    readiness_url: str | None = None
    slack: float = 1.0
    restarts: int = 100
    timeout_s: float = 30.0
    call_timeout_s: float = 10.0
    dial_timeout_s: float = 10.0
    up_s: float = 3.0
    settle_s: float = 1.0
    loop_s: float = 60.0

    def limit(self, seconds: float) -> float:
        """A limit of the checklist, stretched."""
        return seconds * self.slack
