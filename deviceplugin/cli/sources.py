"""Where the scheduler's runs come from: a store of metrics, or the nodes' daemons."""

from collections.abc import Mapping

from msgspec import structs

from deviceplugin.cli.store import access_of
from deviceplugin.errors import ConfigError
from deviceplugin.metrics.store import Access
from deviceplugin.scheduler.histories import ASK_S, daemons_of


def sources_of(flags: Mapping[str, str | None]) -> Mapping[str, Access | None]:
    """`prometheus` and `histories`, of which one is given at most; raises ConfigError."""
    prometheus, history = flags["prometheus"], flags["history"]
    if prometheus and history:
        meant = "one of them: both know the same runs"
        raise ConfigError("--prometheus, --history", f"{prometheus}, {history}", meant)
    store = access_of(prometheus, "--prometheus", flags) if prometheus else None
    return {"prometheus": store, "histories": _daemons(history, flags) if history else None}


def _daemons(address: str, flags: Mapping[str, str | None]) -> Access:
    access = structs.replace(access_of(address, "--history", flags), timeout_s=ASK_S)
    daemons_of(access)
    if access.tenant:
        raise ConfigError("--tenant", access.tenant, "--prometheus with it: daemons have none")
    return access
