"""The settings of the scheduler's extender, of the flags of its command."""

import ssl

from msgspec import structs

from deviceplugin.cli.cel import judge_of
from deviceplugin.cli.frame import parse_number
from deviceplugin.cli.power import parse_power
from deviceplugin.cli.reading import reading_of
from deviceplugin.cli.scheduler_config import asking_of_file, parse_drivers, parse_fair_share
from deviceplugin.cli.sources import sources_of
from deviceplugin.errors import ConfigError
from deviceplugin.learning.settings import Learning
from deviceplugin.scheduler.service import Settings

_LEARNING = ("prometheus", "history", "model", "token_file", "ca_file", "tenant")
Flags = dict[str, str | None]


def settings_of(flags: Flags, address: tuple[str, int], *, events: bool) -> Settings:
    """Raises ConfigError."""
    asked = asking_of_file(flags["config"])
    power = parse_power(flags["power"], flags["power_weight"] or "")
    weights = structs.replace(asked.asking.weights, power=power)
    starving = flags["starving_after"] or ""
    asking = structs.replace(asked.asking, weights=weights)
    reading = structs.replace(reading_of(flags), asking=asking)
    return Settings(
        address=address,
        reading=reading,
        tls=_tls(flags["certificate"], flags["key"]),
        fair=parse_fair_share(flags["fair_share"], starving, always=asked.fair),
        events=events,
        keep_after_s=parse_number(flags["keep_after"] or "0", "--keep-after"),
        learning=_learning(asked.learning, flags),
        drivers=parse_drivers(flags["dra_drivers"] or ""),
        selectors=judge_of,
    )


def _learning(asked: Learning | None, flags: Flags) -> Learning | None:
    if asked is None:
        for name in _LEARNING:
            if given := flags[name]:
                meant = "--config with a section ai_scheduler, or without the flag"
                raise ConfigError(f"--{name.replace('_', '-')}", given, meant)
        return None
    return structs.replace(asked, **sources_of(flags), file=flags["model"] or "")


def _tls(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise ConfigError(
            "--certificate", certificate or "", "both --certificate and --key, or none"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, lambda: "")
    except (OSError, ValueError) as error:
        raise ConfigError(
            "--certificate", certificate, "a certificate and its key", reason=str(error)
        ) from error
    return context
