"""What a person chooses for a run of the suite."""

from pathlib import Path

from msgspec import Struct


class Settings(Struct, frozen=True, kw_only=True):
    """How to run. Times are seconds; `slack` stretches every limit of the checklist.

    timeout_s: to wait for anything. call_timeout_s: after which a call of the plugin hangs.
    restart_s: after which a plugin that ended by itself is started again, None for never.
    early_s: how long the plugin runs before there is a kubelet.
    up_s: after which a second instance of the plugin is up.
    breaks: the resources that the device of break_command belongs to, empty where not known.
    settle_s: how long nothing has to happen before all is taken to have happened.
    lines: what is asked for, everything where it is empty.
    loop_s: how long the loop of restarts may take.
    rest_s: after which threads and files that are only idle are used again or closed.
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
    breaks: tuple[str, ...] = ()
    readiness_url: str | None = None
    slack: float = 1.0
    restarts: int = 100
    timeout_s: float = 30.0
    call_timeout_s: float = 10.0
    dial_timeout_s: float = 10.0
    restart_s: float | None = 1.0
    early_s: float = 3.0
    up_s: float = 3.0
    settle_s: float = 1.0
    loop_s: float = 60.0
    rest_s: float = 6.0

    def limit(self, seconds: float) -> float:
        """A limit of the checklist, stretched."""
        return seconds * self.slack
