"""What the section `resource_planning` asks of a plan; pure."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from deviceplugin.errors import ConfigError
from deviceplugin.fleet.plan import MONTH_H, Asked

_HOURS: Mapping[str, float] = MappingProxyType({"s": 1 / 3600, "m": 1 / 60, "h": 1, "d": 24})
_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "gpu_allocation": ("gpu", "partition"),
        "memory_allocation": ("memory",),
        "network_allocation": ("network",),
        "storage_allocation": ("storage",),
    }
)
_KEY = "resource_planning"


def asked_of(section: Any) -> Asked:
    """Raises ConfigError for what no plan can be."""
    if not section.enabled:
        raise ConfigError(f"{_KEY}.enabled", False, "true: with false it asks for no plan")
    planning, words = section.planning, section.recommendations
    for number, word in enumerate(words):
        if word not in _WORDS:
            key = f"{_KEY}.recommendations[{number}]"
            raise ConfigError(key, word, f"one of {', '.join(_WORDS)}")
    found = Asked()
    return Asked(
        horizon_h=_hours(planning and planning.horizon, "horizon", MONTH_H),
        granularity_h=_hours(planning and planning.granularity, "granularity", 1),
        accuracy=float(planning.accuracy.rstrip("% ")) if planning and planning.accuracy else None,
        resources=tuple(one for word in words for one in _WORDS[word]) or found.resources,
    )


def _hours(text: str | None, name: str, default: int) -> int:
    if text is None:
        return default
    match = re.fullmatch(r"([0-9.]+) ?([a-z]+)", text)
    hours = float(match[1]) * _HOURS.get(match[2], 0) if match else 0
    if hours < 1 or hours > MONTH_H or hours != int(hours):
        key = f"{_KEY}.planning.{name}"
        raise ConfigError(key, text, "whole hours from 1h to 30d: that is what a plan is made of")
    return int(hours)
